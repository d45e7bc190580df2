#include "plan.h"

#include "base/address.h"
#include "base/mem.h"
#include "base/privs.h"
#include "host/uids.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void plan_env(struct run_spec *s, const struct cfg_list *env)
{
    const struct conf_env *v = env->v;
    for (size_t i = 0; i < env->n; i++) {
        bool set = false;
        for (size_t k = 0; k < s->env.n && !set; k++)
            if (!strcmp(s->env.v[k].name, v[i].name)) { /* the app's goes over the profile's */
                xstr_set(&s->env.v[k].value, v[i].value);
                set = true;
            }
        if (!set)
            run_pairs_add(&s->env, v[i].name, v[i].value);
    }
}

void plan_common_env(struct run_spec *s, const struct plan_tenant *t, const char *app, const char *run_id, int64_t attempt)
{
    AUTO_FREE char *app_dir = xasprintf("%s/app", s->dir);
    AUTO_FREE char *result = xasprintf("%s/app/result.json", s->dir);
    AUTO_FREE char *monitor = xasprintf("ipc://%s/monitor.ipc", s->runtime);
    AUTO_FREE char *path = xasprintf("/usr/local/bin:/usr/bin:/bin:%s/" HOME_TOOLS, s->home);
    char tries[24];
    snprintf(tries, sizeof tries, "%lld", (long long)attempt);
    const struct {
        const char *name, *value;
    } env[] = {
        {"PATH", path},
        {"LANG", "C.UTF-8"},
        {"HOME", app_dir},
        {"TMPDIR", app_dir},
        {"MONGO_URL", t->mongo_url ? t->mongo_url : ""},
        {"MONGO_DATABASE", t->database},
        {"SIMBDP_TENANT_ID", t->id},
        {"SIMBDP_APP", app},
        {"SIMBDP_RUN_ID", run_id},
        {"SIMBDP_INSTANCE_ID", run_id},
        {"ZMQ_MONITOR_ENDPOINT", monitor},
        {"SIMBDP_REPORT_INTERVAL_S", "1"},
        {"SIMBDP_ATTEMPT", tries},
        {"SIMBDP_RESULT_FILE", result},
    };
    for (size_t i = 0; i < sizeof env / sizeof *env; i++)
        run_pairs_add(&s->env, env[i].name, env[i].value);
}

void plan_app_dir(struct run_spec *s, const struct home *h, const char *exec)
{
    bool ours = !*exec || !strncmp(exec, "builtin:", 8);
    AUTO_FREE char *dir = home_exec(h, s->tenant, ours ? "x" : exec);
    *strrchr(dir, '/') = 0;
    run_pairs_add(&s->env, "SIMBDP_APP_DIR", *dir ? dir : "/");
}

void plan_delivery(struct run_spec *s, const struct conf_stream_app *c)
{
    if (strcmp(c->delivery, CONF_EXACTLY_ONCE) != 0)
        run_pairs_add(&s->env, "SIMBDP_DELIVERY", c->delivery);
}

void plan_publish_env(struct run_spec *s, const struct conf_tenant *t)
{
    AUTO_FREE char *endpoint = xasprintf("ipc://%s/broker.ipc", s->runtime);
    if (t->streams.n)
        run_pairs_add(&s->env, "ZMQ_STREAM_ENDPOINT", endpoint);
}

enum run_output plan_output(const char *output)
{
    enum run_output o = RUN_OUTPUT_none;
    int r = run_output_of(output, &o);
    assert(r == 0);
    return o;
}

void plan_limits(struct run_spec *s, const struct conf_profile *p)
{
    s->wall_s = p->wall_s;
    s->grace_s = p->grace_s;
    s->output_bytes = p->output_bytes;
    s->cpu_s = p->rlimits.cpu_s;
    s->as_bytes = p->rlimits.as_bytes;
    s->nofile = p->rlimits.nofile;
    s->nproc = p->rlimits.nproc;
    s->fsize_bytes = p->rlimits.fsize_bytes;
    s->core_bytes = p->rlimits.core_bytes;
    s->stack_bytes = p->rlimits.stack_bytes;
    s->cg_cpu_pct = p->cgroup.cpu_pct;
    s->cg_memory_bytes = p->cgroup.memory_bytes;
    s->cg_pids = p->cgroup.pids;
}

void plan_arg(struct run_spec *s, const char *arg)
{
    s->args.v = xrealloc(s->args.v, (s->args.n + 1) * sizeof *s->args.v);
    s->args.v[s->args.n++] = xstrdup(arg);
}

static void plan_number(struct run_spec *s, const char *name, int64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)n);
    if (n >= 0)
        run_pairs_add(&s->env, name, text);
}

void plan_message_limits(struct run_spec *s, const struct conf_limits *l, const struct conf_dataset *d)
{
    if (strcmp(d->inspect, CONF_FULL) != 0)
        run_pairs_add(&s->env, "SIMBDP_QUALITY", "0");
    plan_number(s, "SIMBDP_MAX_ROWS", l->max_rows);
    plan_number(s, "SIMBDP_MAX_COLUMNS", l->max_columns);
}

void plan_secrets(struct run_spec *s, const struct home *h, const char *tenant, const struct cfg_list *secrets)
{
    const struct conf_secret *v = secrets->v;
    AUTO_FREE char *dir = xasprintf("%s/secrets", s->dir);
    for (size_t i = 0; i < secrets->n; i++) {
        AUTO_FREE char *path = home_secret(h, tenant, v[i].file);
        run_pairs_add(&s->secrets, v[i].name, path);
    }
    if (secrets->n)
        run_pairs_add(&s->env, "SIMBDP_SECRETS_DIR", dir);
}

/* A platform program may be told to crash by a test; tenants' programs never see these. */
static void add_crash_env(struct run_spec *s)
{
    static const char *const names[] = {"SIMBDP_CRASH_AT", "SIMBDP_CRASH_ONCE", "ASAN_OPTIONS", "LSAN_OPTIONS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]))
            run_pairs_add(&s->env, names[i], getenv(names[i]));
}

void plan_builtin(struct run_spec *s, const struct home *h)
{
    s->builtin = true;
    s->as_bytes = -1; /* the cgroup holds the loader; an address space limit would hit its sanitizers */
    plan_arg(s, "--home");
    plan_arg(s, h->path);
    add_crash_env(s);
    run_pairs_add(&s->env, "MONGOC_DISABLE_SHM", "1"); /* counters in /dev/shm would outlive a killed loader */
}

void plan_path(struct run_spec *s, const char *path, const char *mode)
{
    if (s->full_isolation)
        run_pairs_add(&s->paths, path, mode);
}

void plan_checker(struct run_spec *s, const struct home *h, const struct conf_stream_app *c)
{
    AUTO_FREE char *path = plan_exec(h, s->tenant, c->checker);
    AUTO_FREE char *seconds = xasprintf("%lld", (long long)c->checker_s);
    if (!*c->checker)
        return;
    plan_arg(s, "--checker");
    plan_arg(s, path);
    plan_arg(s, "--checker-s");
    plan_arg(s, seconds);
}

static void plan_mounts(struct run_spec *s, const struct conf_profile *p)
{
    for (size_t i = 0; i < p->mounts.n; i++) {
        const char *m = p->mounts.v[i];
        bool writable = conf_mount_is_writable(m);
        AUTO_FREE char *path = xstrndup(m, strlen(m) - (writable ? strlen(CONF_WRITABLE) : 0));
        plan_path(s, path, writable ? "prwx" : "prx");
    }
}

/* An executable outside the home may lie where isolated runs see something else. */
static bool is_hidden(const char *path)
{
    static const char *const hidden[] = {"/tmp/", "/var/tmp/", "/run/", "/dev/", "/sys/"};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (!strncmp(path, hidden[i], strlen(hidden[i])))
            return true;
    return false;
}

void plan_checker_path(struct run_spec *s, const struct home *h, const struct conf_stream_app *c)
{
    AUTO_FREE char *path = plan_exec(h, s->tenant, c->checker), *apps = xasprintf("%s/apps/%s/", h->path, s->tenant);
    if (*c->checker && is_hidden(path) && strncmp(path, apps, strlen(apps)) != 0)
        plan_path(s, path, "prx");
}

static void add_target(void *arg, const struct address *a, const char *path)
{
    struct run_spec *s = arg;
    char port[16];
    if (path) {
        plan_path(s, path, "r");
        return;
    }
    snprintf(port, sizeof port, "%d", a->port);
    run_pairs_add(&s->targets, a->host, port);
}

static void plan_network(struct run_spec *s, const struct plan_host *h, const struct conf_profile *p, const char *mongo_url)
{
    s->own_network = s->full_isolation && !conf_network_has(p, CONF_NET_HOST);
    s->relay = home_program(h->home, "simbdp-relay");
    s->relay_uid = privs_is_root() ? ids_program(h->uid_base, IDS_RELAY) : -1;
    if (!s->own_network)
        return;
    for (size_t i = 0; i < p->network.n; i++) {
        const char *v = p->network.v[i];
        struct address a;
        if (!strcmp(v, CONF_NET_PLATFORM))
            address_of_mongo(mongo_url ? mongo_url : "", add_target, s);
        else if (address_parse(v, strlen(v), 0, &a) == 0)
            add_target(s, &a, NULL);
    }
}

void plan_isolation(struct run_spec *s, const struct plan_host *h, const struct conf_profile *p, const char *mongo_url)
{
    AUTO_FREE char *run = xasprintf("%s/runs/%s", h->home->path, s->run_id);
    AUTO_FREE char *app = xasprintf("%s/app", s->dir);
    AUTO_FREE char *apps = xasprintf("%s/apps/%s", h->home->path, s->tenant);
    AUTO_FREE char *tools = home_path(h->home, HOME_TOOLS);
    s->full_isolation = h->isolation->full && !strcmp(p->isolation, CONF_FULL);
    plan_mounts(s, p);
    plan_path(s, run, "r");
    plan_path(s, app, "rwx");
    plan_path(s, apps, "rx");
    plan_path(s, tools, "rx");
    plan_path(s, h->home->runtime, "r");
    if (!s->image && !s->builtin && is_hidden(s->exec) && strncmp(s->exec, apps, strlen(apps)) != 0)
        plan_path(s, s->exec, "prx");
    s->tmp_bytes = p->tmp_bytes;
    s->tmp_inodes = p->tmp_inodes;
    s->scratch_bytes = p->scratch_bytes;
    s->scratch_inodes = p->scratch_inodes;
    s->scratch_in_memory = s->full_isolation && !strcmp(p->scratch, CONF_MEMORY);
    plan_network(s, h, p, mongo_url);
}

char *plan_exec(const struct home *h, const char *tenant, const char *exec)
{
    if (!strcmp(exec, BUILTIN_LOAD))
        return home_program(h, "simbdp-load");
    if (!strcmp(exec, BUILTIN_PIPE))
        return home_path(h, HOME_TOOLS "/simbdp-pipe");
    return home_exec(h, tenant, exec);
}

int64_t plan_identity(const struct stat *st)
{
    return (int64_t)st->st_ino ^ ((int64_t)st->st_size << 20) ^ st->st_mtim.tv_sec ^ ((int64_t)st->st_mtim.tv_nsec << 12) ^
           ((int64_t)st->st_mode << 40) ^ st->st_ctim.tv_nsec;
}

int64_t plan_exec_identity(const char *path)
{
    struct stat st;
    return stat(path, &st) < 0 ? 0 : plan_identity(&st);
}
