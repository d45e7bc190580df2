#include "check.h"

#include "base/address.h"
#include "base/mem.h"
#include "cron.h"
#include "expr.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>

bool conf_valid_id(const char *id)
{
    size_t n = strlen(id);
    return n >= 1 && n <= 32 && id[0] >= 'a' && id[0] <= 'z' && strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

/* Checks a name that becomes a directory below staging/. */
static bool valid_name(const char *name)
{
    size_t n = strlen(name);
    return n >= 1 && n <= 64 && name[0] != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == n;
}

static int check_env(const char *file, const struct cfg_list *env, struct err *e)
{
    static const char *const reserved[] = {"SIMBDP_", "MONGO_", "ZMQ_", "LD_"};
    const struct conf_env *v = env->v;
    for (size_t i = 0; i < env->n; i++) {
        if (!*v[i].name || strchr(v[i].name, '='))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'env.name': \"%s\" is no name of a variable", file, v[i].line, v[i].name);
        for (size_t k = 0; k < sizeof reserved / sizeof *reserved; k++)
            if (!strncmp(v[i].name, reserved[k], strlen(reserved[k])))
                return err_set(e, ERR_CONFIG, "%s:%d: key 'env.name': %s is reserved (names starting with %s are)", file, v[i].line,
                               v[i].name, reserved[k]);
    }
    return 0;
}

static int check_dataset(const struct conf_tenant *t, struct conf_dataset *d, struct err *e)
{
    if (!valid_name(d->name))
        return err_set(e, ERR_CONFIG,
                       "%s:%d: key 'datasets.name': \"%s\" must be 1 to 64 of A-Z a-z 0-9 _ - . and not "
                       "start with a dot",
                       t->file, d->line, d->name);
    if (conf_dataset(t, d->name) != d)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'datasets.name': \"%s\" stands twice", t->file, d->line, d->name);
    if (!*d->collection)
        xstr_set(&d->collection, d->name);
    if (strlen(d->collection) > 100 || strchr(d->collection, '$') || !strncmp(d->collection, "system.", 7))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'datasets.collection': \"%s\" is not a collection MongoDB accepts", t->file,
                       d->line, d->collection);
    return conf_check_spec(t, d, e);
}

/* Checks an executable: one of the platform's that are allowed here (a list that ends with NULL), below apps/<tenant>/, or
 * absolute. */
static int check_exec(const struct conf_tenant *t, int line, const char *key, const char *exec, const char *const *builtins,
                      struct err *e)
{
    AUTO_BUF struct buf names = {0};
    bool builtin = !strncmp(exec, "builtin:", 8), known = false;
    for (; *builtins; builtins++) {
        known |= !strcmp(exec, *builtins);
        buf_addf(&names, "%s, ", *builtins);
    }
    if (!*exec || (builtin && !known) || (!builtin && exec[0] != '/' && strstr(exec, "..")))
        return err_set(e, ERR_CONFIG, "%s:%d: key '%s': \"%s\" must be %sa path below apps/%s/ without '..', or absolute", t->file,
                       line, key, exec, names.n ? names.p : "", t->id);
    return 0;
}

/* Checks `image`: not possible for programs that need the host's root, nor without full isolation. */
static int check_image(const struct conf *c, const struct conf_tenant *t, int line, const char *key, const char *image,
                       const char *profile, const char *needs_host, struct err *e)
{
    const struct conf_profile *p = conf_profile(c, profile);
    if (!*image)
        return 0;
    if (strstr(image, "..") || image[0] == ':')
        return err_set(e, ERR_CONFIG, "%s:%d: key '%s': \"%s\" must be a path below apps/%s/ or absolute, without '..'", t->file,
                       line, key, image, t->id);
    if (needs_host)
        return err_set(e, ERR_CONFIG, "%s:%d: key '%s': %s needs the host's root; leave the image out", t->file, line, key,
                       needs_host);
    if (p && p->isolation != ISOLATION_full)
        return err_set(e, ERR_CONFIG, "%s:%d: key '%s': profile \"%s\" has isolation = \"%s\"; an image needs \"%s\"", t->file,
                       line, key, profile, conf_isolation_name(p->isolation), conf_isolation_name(ISOLATION_full));
    return 0;
}

static int check_trigger(const struct conf_tenant *t, const struct conf_batch *b, struct err *e)
{
    struct cron *cron = NULL;
    bool timed = !strncmp(b->trigger, CONF_CRON, strlen(CONF_CRON));
    if (!timed && strcmp(b->trigger, CONF_ARRIVAL) && strcmp(b->trigger, CONF_MANUAL))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.trigger': \"%s\" must be arrival, manual, or cron: and a schedule",
                       t->file, b->line, b->trigger);
    int r = cron_new(timed ? b->trigger + strlen(CONF_CRON) : "@daily", b->timezone, &cron, e);
    if (r < 0)
        err_context(e, "%s:%d: key 'batch.%s'", t->file, b->line, strstr(e->msg, "time zone") ? "timezone" : "trigger");
    cron_free(cron);
    return r;
}

static int check_secrets(const struct conf_tenant *t, const struct cfg_list *secrets, struct err *e)
{
    const struct conf_secret *v = secrets->v;
    for (size_t i = 0; i < secrets->n; i++) {
        if (!valid_name(v[i].name))
            return err_set(e, ERR_CONFIG,
                           "%s:%d: key 'secrets.name': \"%s\" must be 1 to 64 of A-Z a-z 0-9 _ - . and not start "
                           "with a dot",
                           t->file, v[i].line, v[i].name);
        if (!*v[i].file || (v[i].file[0] != '/' && strstr(v[i].file, "..")))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'secrets.file': \"%s\" must be absolute, or below keys/%s/ without '..'",
                           t->file, v[i].line, v[i].file, t->id);
        for (size_t k = 0; k < i; k++)
            if (!strcmp(v[k].name, v[i].name))
                return err_set(e, ERR_CONFIG, "%s:%d: key 'secrets.name': \"%s\" stands twice", t->file, v[i].line, v[i].name);
    }
    return 0;
}

static int check_batch(const struct conf *c, const struct conf_tenant *t, const struct conf_batch *b, struct err *e)
{
    if (!conf_valid_id(b->app))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.app': \"%s\" must match [a-z][a-z0-9_-]{0,31}", t->file, b->line, b->app);
    if (conf_app(t, b->app) != b)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.app': \"%s\" stands twice", t->file, b->line, b->app);
    if (!conf_profile(c, b->profile))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.profile': no profile \"%s\" in conf/profiles.conf", t->file, b->line,
                       b->profile);
    bool builtin = !strcmp(b->exec, BUILTIN_LOAD);
    int r = check_exec(t, b->line, "batch.exec", b->exec, (const char *const[]){BUILTIN_LOAD, NULL}, e);
    if (r == 0 && *b->checker)
        r = check_exec(t, b->line, "batch.checker", b->checker, (const char *const[]){NULL}, e);
    if (r == 0)
        r = check_image(c, t, b->line, "batch.image", b->image, b->profile, builtin ? BUILTIN_LOAD : NULL, e);
    if (r == 0)
        r = check_trigger(t, b, e);
    if (r == 0)
        r = check_secrets(t, &b->secrets, e);
    if (r < 0)
        return r;
    if (b->group.max_files > 1 && b->output == RUN_OUTPUT_stdout)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.group': output = \"stdout\" takes one file a run; use output = \"dir\"",
                       t->file, b->line);
    if (builtin && b->output != RUN_OUTPUT_none)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.output': builtin:load loads by itself; use \"none\"", t->file, b->line);
    if (builtin && !*b->checker && (b->env.n || b->secrets.n))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.%s': builtin:load has no use for it", t->file, b->line,
                       b->env.n ? "env" : "secrets");
    if (builtin && b->args.n)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.args': builtin:load takes none", t->file, b->line);
    for (size_t i = 0; i < b->datasets.n; i++)
        if (!conf_dataset(t, b->datasets.v[i]))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'batch.datasets': no dataset \"%s\" in this file", t->file, b->line,
                           b->datasets.v[i]);
    return check_env(t->file, &b->env, e);
}

static int check_shared(const struct conf *c, const struct conf_tenant *t, const struct conf_stream *s, struct err *e)
{
    const struct conf_stream_app *a = t->stream_apps.v;
    size_t n = 0;
    for (size_t i = 0; i < t->stream_apps.n; i++) {
        if (strcmp(a[i].stream, s->name) != 0)
            continue;
        n++;
        if (*a[i].exec && a[i].max_instances < s->partitions)
            return err_set(
                e, ERR_CONFIG,
                "%s:%d: key 'stream_apps.max_instances': %lld are fewer than the %lld partitions of stream %s; each of the homes "
                "that share it needs one",
                t->file, a[i].line, (long long)a[i].max_instances, (long long)s->partitions, s->name);
    }
    if (s->store != CONF_STORE_kafka)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'streams.shared': only a stream with store = \"kafka\" can be shared", t->file,
                       s->line);
    if (!*c->platform.kafka.member)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'streams.shared': needs kafka.member in mysimbdp.conf", t->file, s->line);
    if (n > CONF_MAX_SHARED_APPS)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'streams.shared': %zu apps consume it; a shared stream may have %d", t->file,
                       s->line, n, CONF_MAX_SHARED_APPS);
    return 0;
}

static int check_stream(const struct conf *c, const struct conf_tenant *t, const struct conf_stream *s, struct err *e)
{
    if (s->store == CONF_STORE_kafka && !*c->platform.kafka.brokers)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'streams.store': \"kafka\" needs kafka.brokers in mysimbdp.conf", t->file,
                       s->line);
    if (s->store == CONF_STORE_kafka && s->max_message_bytes > CONF_MAX_KAFKA_MESSAGE)
        return err_set(e, ERR_CONFIG,
                       "%s:%d: key 'streams.max_message_bytes': %lld is more than %d, which a stream in Kafka may have", t->file,
                       s->line, (long long)s->max_message_bytes, CONF_MAX_KAFKA_MESSAGE);
    int r = s->shared ? check_shared(c, t, s, e) : 0;
    if (r < 0)
        return r;
    if (!conf_valid_id(s->name))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'streams.name': \"%s\" must match [a-z][a-z0-9_-]{0,31}", t->file, s->line,
                       s->name);
    if (conf_stream(t, s->name) != s)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'streams.name': \"%s\" stands twice", t->file, s->line, s->name);
    return 0;
}

/* Also of those that the tenant declares itself. */
static int check_n_streams(const struct conf_tenant *t, struct err *e)
{
    const struct conf_stream *s = t->streams.v;
    if (t->max_streams < 0 || (int64_t)t->streams.n <= t->max_streams)
        return 0;
    return err_set(e, ERR_CONFIG, "%s:%d: key 'max_streams': there are %zu streams, and the agreement has %lld", t->file,
                   s[t->max_streams].line, t->streams.n, (long long)t->max_streams);
}

/* `builtin:pipe`: messages as lines into a command, which may store anything. */
static int check_pipe(const struct conf_tenant *t, const struct conf_stream_app *a, struct err *e)
{
    bool command = false;
    for (size_t i = 0; i + 1 < a->args.n && !command; i++)
        command = !strcmp(a->args.v[i], "--");
    if (a->output != RUN_OUTPUT_none)
        return err_set(e, ERR_CONFIG,
                       "%s:%d: key 'stream_apps.output': builtin:pipe stores nothing; name the command itself in exec", t->file,
                       a->line);
    if (*a->image)
        return err_set(e, ERR_CONFIG,
                       "%s:%d: key 'stream_apps.image': builtin:pipe needs the host's libraries; put simbdp-pipe into "
                       "the image and name it in exec",
                       t->file, a->line);
    if (!command)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.args': builtin:pipe needs a command: args = (\"--\", \"COMMAND\")",
                       t->file, a->line);
    return 0;
}

static int check_instances(const struct conf *c, const struct conf_tenant *t, const struct conf_stream_app *a, struct err *e)
{
    const struct conf_dataset *d = *a->dataset ? conf_dataset(t, a->dataset) : NULL;
    bool builtin = !strcmp(a->exec, BUILTIN_LOAD), stores = builtin || a->output != RUN_OUTPUT_none;
    int r = check_exec(t, a->line, "stream_apps.exec", a->exec, (const char *const[]){BUILTIN_LOAD, BUILTIN_PIPE, NULL}, e);
    if (r == 0 && *a->checker)
        r = check_exec(t, a->line, "stream_apps.checker", a->checker, (const char *const[]){NULL}, e);
    if (r == 0 && *a->checker && !stores)
        r = err_set(e, ERR_CONFIG,
                    "%s:%d: key 'stream_apps.checker': only builtin:load and apps with an output mode have one; other apps check "
                    "messages themselves",
                    t->file, a->line);
    if (r == 0 && !strcmp(a->exec, BUILTIN_PIPE))
        r = check_pipe(t, a, e);
    if (r == 0)
        r = check_image(c, t, a->line, "stream_apps.image", a->image, a->profile,
                        builtin  ? BUILTIN_LOAD
                        : stores ? "an output mode, whose loader runs beside the app,"
                                 : NULL,
                        e);
    if (r == 0)
        r = check_secrets(t, &a->secrets, e);
    if (r == 0)
        r = check_env(t->file, &a->env, e);
    if (r < 0)
        return r;
    if (!conf_profile(c, a->profile))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.profile': no profile \"%s\" in conf/profiles.conf", t->file, a->line,
                       a->profile);
    if ((r = conf_check_instances_place(c, t, a, e)) < 0)
        return r;
    if (*a->dataset && !d)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.dataset': no dataset \"%s\" in this file", t->file, a->line,
                       a->dataset);
    if (stores && !d)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.dataset': %s needs a dataset to store rows in", t->file, a->line,
                       builtin ? BUILTIN_LOAD : "an output mode");
    if (d && d->on_key_conflict == KEY_replace)
        return err_set(
            e, ERR_CONFIG,
            "%s:%d: key 'stream_apps.dataset': dataset %s has on_key_conflict = \"replace\", which is not for streams: a "
            "message that is delivered again comes behind younger ones",
            t->file, a->line, a->dataset);
    if (builtin && (a->output != RUN_OUTPUT_none || a->args.n || (!*a->checker && (a->env.n || a->secrets.n))))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.%s': builtin:load has no use for it", t->file, a->line,
                       a->output != RUN_OUTPUT_none ? "output"
                       : a->args.n                  ? "args"
                       : a->env.n                   ? "env"
                                                    : "secrets");
    if (a->min_instances > a->max_instances)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.min_instances': %lld is more than max_instances %lld", t->file,
                       a->line, (long long)a->min_instances, (long long)a->max_instances);
    return 0;
}

static int check_stream_app(const struct conf *c, const struct conf_tenant *t, size_t i, struct err *e)
{
    const struct conf_stream_app *v = t->stream_apps.v, *a = &v[i];
    if (!conf_valid_id(a->app))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.app': \"%s\" must match [a-z][a-z0-9_-]{0,31}", t->file, a->line,
                       a->app);
    for (size_t k = 0; k < i; k++)
        if (!strcmp(v[k].app, a->app))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.app': \"%s\" stands twice", t->file, a->line, a->app);
    if (conf_app(t, a->app))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.app': \"%s\" is a batch app already", t->file, a->line, a->app);
    if (!*a->stream && (!*a->exec || !strncmp(a->exec, "builtin:", 8) || a->output != RUN_OUTPUT_none))
        return err_set(e, ERR_CONFIG,
                       "%s:%d: key 'stream_apps.stream': only an app with an exec of its own and output = \"none\" can do without",
                       t->file, a->line);
    if (*a->stream && !conf_stream(t, a->stream))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'stream_apps.stream': no stream \"%s\" in this file", t->file, a->line,
                       a->stream);
    return *a->exec ? check_instances(c, t, a, e) : 0;
}

static int check_curve_keys(const struct conf_tenant *t, struct err *e)
{
    static const char z85[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    for (size_t i = 0; i < t->curve_keys.n; i++)
        if (strlen(t->curve_keys.v[i]) != 40 || strspn(t->curve_keys.v[i], z85) != 40)
            return err_set(e, ERR_CONFIG, "%s: key 'curve_keys': \"%s\" is no CURVE public key (40 characters of Z85)", t->file,
                           t->curve_keys.v[i]);
    return 0;
}

int conf_check_tenant(const struct conf *c, struct conf_tenant *t, struct err *e)
{
    int r = 0;
    if (!*t->database)
        xstr_set(&t->database, t->id);
    if (!*t->display_name)
        xstr_set(&t->display_name, t->id);
    if (strlen(t->database) > 60 || strpbrk(t->database, "/\\. \"$*<>:|?") || !strcmp(t->database, "admin") ||
        !strcmp(t->database, "local") || !strcmp(t->database, "config"))
        return err_set(e, ERR_CONFIG, "%s: key 'database': \"%s\" is not a database a tenant can have", t->file, t->database);
    struct conf_dataset *d = t->datasets.v;
    const struct conf_batch *b = t->batch.v;
    for (size_t i = 0; r == 0 && i < t->datasets.n; i++) {
        r = conf_collect(c, check_dataset(t, &d[i], e), e);
        if (r == 0 && t->retention.documents_days >= 0 && d[i].on_key_conflict == KEY_replace)
            r = err_set(e, ERR_CONFIG,
                        "%s:%d: key 'retention.documents_days': dataset %s has on_key_conflict = \"replace\", and a row "
                        "that replaced another keeps no trace of when",
                        t->file, d[i].line, d[i].name);
        r = conf_collect(c, r, e);
    }
    for (size_t i = 0; r == 0 && i < t->batch.n; i++)
        r = conf_collect(c, check_batch(c, t, &b[i], e), e);
    const struct conf_stream *s = t->streams.v;
    if (r == 0)
        r = conf_collect(c, check_n_streams(t, e), e);
    for (size_t i = 0; r == 0 && i < t->streams.n; i++)
        r = conf_collect(c, check_stream(c, t, &s[i], e), e);
    for (size_t i = 0; r == 0 && i < t->stream_apps.n; i++)
        r = conf_collect(c, check_stream_app(c, t, i, e), e);
    return r < 0 ? r : check_curve_keys(t, e);
}

static int check_mounts(const char *file, const struct conf_profile *p, struct err *e)
{
    for (size_t i = 0; i < p->mounts.n; i++) {
        const char *m = p->mounts.v[i];
        size_t n = strlen(m) - (conf_mount_is_writable(m) ? strlen(CONF_WRITABLE) : 0);
        if (m[0] != '/' || n < 2 || strstr(m, "/../") || strstr(m, "//") || (n >= 3 && !strncmp(m + n - 3, "/..", 3)))
            return err_set(e, ERR_CONFIG,
                           "%s:%d: key 'profiles.mounts': \"%s\" is no absolute path without .. and //, or one with %s behind it",
                           file, p->line, m, CONF_WRITABLE);
    }
    return 0;
}

static int check_network(const char *file, const struct conf_profile *p, struct err *e)
{
    static const char *const alone[] = {CONF_NET_NONE, CONF_NET_HOST};
    struct address a;
    for (size_t i = 0; i < 2; i++)
        if (p->network.n > 1 && conf_network_has(p, alone[i]))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'profiles.network': \"%s\" stands alone or not at all", file, p->line,
                           alone[i]);
    for (size_t i = 0; i < p->network.n; i++) {
        const char *v = p->network.v[i];
        if (strcmp(v, CONF_NET_PLATFORM) != 0 && strcmp(v, CONF_NET_NONE) != 0 && strcmp(v, CONF_NET_HOST) != 0 &&
            address_parse(v, strlen(v), 0, &a) < 0)
            return err_set(e, ERR_CONFIG,
                           "%s:%d: key 'profiles.network': \"%s\" is none of platform, none, host, host:port and [address]:port",
                           file, p->line, v);
    }
    return 0;
}

/* scratch = "memory": its limits become those of a tmpfs, which without them would have none at all. */
static int check_scratch(const char *file, const struct conf_profile *p, struct err *e)
{
    if (p->scratch != SCRATCH_memory)
        return 0;
    if (p->isolation != ISOLATION_full)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'profiles.scratch': \"memory\" needs isolation = \"full\"", file, p->line);
    if (p->scratch_bytes < 1 || p->scratch_inodes < 1)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'profiles.scratch': \"memory\" needs scratch_bytes and scratch_inodes", file,
                       p->line);
    return 0;
}

static int check_profile(const char *file, const struct conf *c, const struct conf_profile *p, struct err *e)
{
    if (!conf_valid_id(p->name))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'profiles.name': \"%s\" must match [a-z][a-z0-9_-]{0,31}", file, p->line,
                       p->name);
    if (conf_profile(c, p->name) != p)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'profiles.name': \"%s\" stands twice", file, p->line, p->name);
    bool job = conf_launcher_of(c, p) == LAUNCHER_slurm;
    struct conf_capacity most = c->platform.capacity, of_jobs = c->platform.slurm.capacity;
    double cpus = job && of_jobs.cpus > 0 ? of_jobs.cpus : most.cpus;
    int64_t memory = job && of_jobs.memory_bytes > 0 ? of_jobs.memory_bytes : most.memory_bytes;
    if ((cpus > 0 && p->requests.cpus > cpus) || (memory > 0 && p->requests.memory_bytes > memory))
        return err_set(e, ERR_CONFIG,
                       "%s:%d: key 'profiles.requests': \"%s\" requests more than "
                       "platform.%scapacity; its runs could never start",
                       file, p->line, p->name, job && of_jobs.cpus > 0 ? "slurm." : "");
    int r = check_env(file, &p->env, e);
    if (r == 0)
        r = check_mounts(file, p, e);
    if (r == 0)
        r = check_network(file, p, e);
    if (r == 0)
        r = conf_check_slurm(file, p, e);
    return r == 0 ? check_scratch(file, p, e) : r;
}

int conf_check_profiles(const char *file, const struct conf *c, struct err *e)
{
    const struct conf_profile *p = c->profiles.v;
    int r = 0;
    for (size_t i = 0; r == 0 && i < c->profiles.n; i++)
        r = conf_collect(c, check_profile(file, c, &p[i], e), e);
    if (r == 0)
        r = conf_collect(c, conf_check_launchers(file, c, e), e);
    return r;
}

/* A host name may only be known where it is looked up. Only what cannot be an address at all is refused. */
static int check_listen(const char *file, const struct conf *c, struct err *e)
{
    static const char hint[] = "an address, a host's name or \"*\"; the ports are those of platform.ports";
    const char *v = c->platform.listen;
    size_t n = strlen(v);
    unsigned char bytes[sizeof(struct in6_addr)];
    bool bracketed = n > 2 && v[0] == '[' && v[n - 1] == ']';
    AUTO_FREE char *name = bracketed ? xstrndup(v + 1, n - 2) : xstrdup(v);
    bool digits = *v && strspn(v, "0123456789.") == n, colons = strchr(name, ':') != NULL;
    AUTO_FREE char *no_zone = xstrndup(name, strcspn(name, "%"));
    if (strpbrk(v, "/ \t") || (digits && inet_pton(AF_INET, v, bytes) != 1) ||
        ((colons || bracketed) && inet_pton(AF_INET6, no_zone, bytes) != 1))
        return err_set(e, ERR_CONFIG, "%s: key 'platform.listen': \"%s\" is not %s", file, v, hint);
    return 0;
}

static bool is_loopback(const char *address)
{
    unsigned char a[sizeof(struct in6_addr)];
    return (inet_pton(AF_INET, address, a) == 1 && a[0] == 127) ||
           (inet_pton(AF_INET6, address, a) == 1 && !memcmp(a, &in6addr_loopback, sizeof in6addr_loopback));
}

static int check_http(const char *file, const struct conf *c, struct err *e)
{
    const struct conf_http *h = &c->platform.http;
    unsigned char a[sizeof(struct in6_addr)];
    if (*h->listen && inet_pton(AF_INET, h->listen, a) != 1 && inet_pton(AF_INET6, h->listen, a) != 1)
        return err_set(e, ERR_CONFIG,
                       "%s: key 'http.listen': \"%s\" is no address (127.0.0.1, 0.0.0.0, ::1, ...); its port is ports.gateway",
                       file, h->listen);
    if (*h->listen && !h->tls && !is_loopback(h->listen))
        return err_set(
            e, ERR_CONFIG,
            "%s: key 'http.tls': without it passwords would cross the network in the open; listen at 127.0.0.1, or leave it on",
            file);
    if (!*h->certificate != !*h->key)
        return err_set(e, ERR_CONFIG, "%s: keys 'http.certificate' and 'http.key' go together", file);
    if (*h->certificate && (h->certificate[0] != '/' || h->key[0] != '/'))
        return err_set(e, ERR_CONFIG, "%s: keys 'http.certificate' and 'http.key' are absolute paths", file);
    for (size_t i = 0; i < h->fronts.n; i++)
        if (inet_pton(AF_INET, h->fronts.v[i], a) != 1 && inet_pton(AF_INET6, h->fronts.v[i], a) != 1)
            return err_set(e, ERR_CONFIG, "%s: key 'http.fronts': \"%s\" is no address", file, h->fronts.v[i]);
    return 0;
}

enum { MAX_WEBHOOKS = 32, MAX_URL = 2000 };

/* Printable, and with a host: the rest is the receiver's to say. */
static bool is_printable(const char *url)
{
    for (const char *p = url; *p; p++)
        if (*p <= ' ' || *p > '~')
            return false;
    return strlen(url) <= MAX_URL;
}

static bool is_http_url(const char *url)
{
    const char *host = !strncmp(url, "https://", 8) ? url + 8 : !strncmp(url, "http://", 7) ? url + 7 : "";
    return *host && *host != '/' && is_printable(url);
}

static const struct conf_webhook *find_webhook(const struct conf *c, const char *name, size_t n)
{
    const struct conf_webhook *v = c->platform.webhooks.v;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(v[i].name, name))
            return &v[i];
    return NULL;
}

/* The URL is not repeated: it may be all that one needs to know to call. */
static int check_webhooks(const char *file, const struct conf *c, struct err *e)
{
    const struct conf_webhook *v = c->platform.webhooks.v;
    if (c->platform.webhooks.n > MAX_WEBHOOKS)
        return err_set(e, ERR_CONFIG, "%s: key 'webhooks': %zu are too many, %d is the most", file, c->platform.webhooks.n,
                       MAX_WEBHOOKS);
    for (size_t i = 0; i < c->platform.webhooks.n; i++) {
        if (!conf_valid_id(v[i].name))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'webhooks.name': \"%s\" must match [a-z][a-z0-9_-]{0,31}", file, v[i].line,
                           v[i].name);
        if (find_webhook(c, v[i].name, i))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'webhooks.name': \"%s\" stands twice", file, v[i].line, v[i].name);
        if (!is_http_url(v[i].url))
            return err_set(
                e, ERR_CONFIG,
                "%s:%d: key 'webhooks.url': that of \"%s\" is no http:// or https:// URL of at most %d printable characters", file,
                v[i].line, v[i].name, MAX_URL);
        const char *const paths[] = {v[i].secret_file, v[i].ca_file}, *const keys[] = {"secret_file", "ca_file"};
        for (int k = 0; k < 2; k++)
            if (*paths[k] && paths[k][0] != '/')
                return err_set(e, ERR_CONFIG, "%s:%d: key 'webhooks.%s': \"%s\" is no absolute path", file, v[i].line, keys[k],
                               paths[k]);
    }
    return 0;
}

/* The collector reads NAME.prom only, and a relative path would lie wherever the keeper was started. */
static int check_metrics(const char *file, const struct conf *c, struct err *e)
{
    const char *path = c->platform.metrics.textfile;
    size_t n = strlen(path);
    if (n && (path[0] != '/' || n < 7 || strcmp(path + n - 5, ".prom") != 0 || path[n - 6] == '/'))
        return err_set(e, ERR_CONFIG, "%s: key 'metrics.textfile': \"%s\" is no absolute path of a file NAME.prom", file, path);
    return 0;
}

static int check_log(const char *file, const struct conf *c, struct err *e)
{
    const char *path = c->platform.log_socket;
    if (!*path || (path[0] == '/' && strlen(path) < sizeof((struct sockaddr_un *)0)->sun_path))
        return 0;
    return err_set(e, ERR_CONFIG, "%s: key 'log_socket': \"%s\" is no absolute path of at most %zu bytes", file, path,
                   sizeof((struct sockaddr_un *)0)->sun_path - 1);
}

static int check_otlp(const char *file, const struct conf *c, struct err *e)
{
    const char *url = c->platform.otlp.url;
    const char *const paths[] = {c->platform.otlp.ca_file, c->platform.otlp.headers_file}, *const keys[] = {"ca_file",
                                                                                                            "headers_file"};
    if (*url && !is_http_url(url))
        return err_set(e, ERR_CONFIG, "%s: key 'otlp.url': it is no http:// or https:// URL of at most %d printable characters",
                       file, MAX_URL);
    for (int k = 0; k < 2; k++)
        if (*paths[k] && paths[k][0] != '/')
            return err_set(e, ERR_CONFIG, "%s: key 'otlp.%s': \"%s\" is no absolute path", file, keys[k], paths[k]);
    return 0;
}

static int check_alert(const char *file, const struct conf *c, const struct conf_alert *a, struct err *e)
{
    struct expr *x = NULL;
    struct err why = {0};
    if (!conf_valid_id(a->name))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'alerts.name': \"%s\" must match [a-z][a-z0-9_-]{0,31}", file, a->line, a->name);
    for (const struct conf_alert *b = c->platform.alerts.v; b < a; b++)
        if (!strcmp(b->name, a->name))
            return err_set(e, ERR_CONFIG, "%s:%d: key 'alerts.name': \"%s\" stands twice", file, a->line, a->name);
    if (expr_parse(a->when, &x, &why) < 0)
        return err_set(e, ERR_CONFIG, "%s:%d: key 'alerts.when': %s", file, a->line, why.msg);
    expr_free(x);
    if (*a->command && a->command[0] != '/')
        return err_set(e, ERR_CONFIG, "%s:%d: key 'alerts.command': \"%s\" is no absolute path (no shell runs it)", file, a->line,
                       a->command);
    if (*a->webhook && !find_webhook(c, a->webhook, c->platform.webhooks.n))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'alerts.webhook': there is no webhook \"%s\" (platform.webhooks)", file, a->line,
                       a->webhook);
    if (*a->group && !conf_valid_id(a->group))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'alerts.group': \"%s\" must match [a-z][a-z0-9_-]{0,31}", file, a->line,
                       a->group);
    const char *url = a->runbook_url;
    if (*url && !is_http_url(url) && (strncmp(url, "file:///", 8) != 0 || !is_printable(url)))
        return err_set(e, ERR_CONFIG, "%s:%d: key 'alerts.runbook_url': that of \"%s\" is no %s of at most %d printable characters",
                       file, a->line, a->name, "http://, https:// or file:/// URL", MAX_URL);
    return 0;
}

static int check_alerts(const char *file, const struct conf *c, struct err *e)
{
    const struct conf_alert *v = c->platform.alerts.v;
    int r = 0;
    for (size_t i = 0; r == 0 && i < c->platform.alerts.n; i++)
        r = check_alert(file, c, &v[i], e);
    return r;
}

int conf_check_platform(const char *file, const struct conf *c, struct err *e)
{
    int r = check_listen(file, c, e);
    if (r == 0)
        r = check_http(file, c, e);
    if (r == 0)
        r = check_log(file, c, e);
    if (r == 0)
        r = check_otlp(file, c, e);
    if (r == 0)
        r = check_webhooks(file, c, e);
    if (r == 0)
        r = conf_check_kafka(file, c, e);
    if (r == 0)
        r = check_metrics(file, c, e);
    return r < 0 ? r : check_alerts(file, c, e);
}
