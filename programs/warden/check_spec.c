#include "check_spec.h"
#include "uid_owners.h"

#include "manager/app_env.h"
#include "manager/plan.h"

#include "base/address.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/trace_context.h"
#include "host/app_version.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RELOAD_MS = 1000, VERSION_MS = 10000 };

/* A configuration, and the MongoDBs that it leads to. */
struct law {
    struct conf *conf;
    struct map hosts; /* of the platform's URLs: "host:port" or a path -> anything */
};

struct check_spec {
    const struct home *home;
    const struct isolation_host *isolation;
    bool streams;
    struct law laws[2];       /* the one in force, and the one before it */
    struct tenant_uids *uids; /* NULL: the platform has no uids to give */
    int64_t reloaded_ms;
};

/* A spec, and what of the configuration it is judged by. */
struct trial {
    struct check_spec *j;
    const struct law *law;
    const struct run_spec *s;
    const struct conf_tenant *t;
    const struct conf_profile *p;
    const struct conf_batch *batch;       /* the app is one of these two; the other is NULL */
    const struct conf_stream_app *stream; /* stores: its messages go through simbdp-load */
    bool stores, free_args;
    struct run_spec want;
};

/* ---- configurations ---- */

static void add_host(void *arg, const struct address *a, const char *path)
{
    AUTO_FREE char *key = path ? xstrdup(path) : xasprintf("%s:%d", a->host, a->port);
    if (!map_get(arg, key))
        map_put(arg, key, arg);
}

static void add_platforms(struct check_spec *j, struct law *l)
{
    AUTO_BUF struct buf b = {0};
    const char *env = getenv("MONGO_URL");
    address_of_mongo(l->conf->platform.mongo_url, add_host, &l->hosts);
    address_of_mongo(env ? env : "", add_host, &l->hosts);
    if (fd_read_file(j->home->dirfd, "state/mongo.json", &b, 65536, NULL) < 0)
        return;
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, NULL);
    address_of_mongo(doc ? json_get_str(doc, "url", "") : "", add_host, &l->hosts);
}

static void law_fini(struct law *l)
{
    conf_free(l->conf);
    map_fini(&l->hosts);
    *l = (struct law){0};
}

static int read_law(struct check_spec *j, struct err *e)
{
    struct law l = {0};
    int r = conf_load(j->home->path, &l.conf, e);
    j->reloaded_ms = clk_now_ms();
    if (r < 0)
        return r;
    if (j->laws[0].conf && j->laws[0].conf->platform.uid_base != l.conf->platform.uid_base) {
        conf_free(l.conf);
        return err_set(e, ERR_CONFIG, "platform.uid_base has changed since the start");
    }
    add_platforms(j, &l);
    law_fini(&j->laws[1]);
    j->laws[1] = j->laws[0];
    j->laws[0] = l;
    return 0;
}

int check_spec_new(const struct home *h, const struct isolation_host *isolation, bool streams, struct check_spec **ret,
                   struct err *e)
{
    struct check_spec *j = xcalloc(1, sizeof *j);
    *j = (struct check_spec){.home = h, .isolation = isolation, .streams = streams};
    int r = read_law(j, e);
    if (r == 0 && geteuid() == 0) {
        const struct conf *c = j->laws[0].conf;
        r = tenant_uids_open(h, &(struct uid_block){c->platform.uid_base, c->platform.n_uids}, &j->uids, e);
    }
    if (r < 0)
        check_spec_free(j);
    else
        *ret = j;
    return r;
}

void check_spec_free(struct check_spec *j)
{
    if (!j)
        return;
    law_fini(&j->laws[0]);
    law_fini(&j->laws[1]);
    tenant_uids_free(j->uids);
    free(j);
}

void check_spec_reload(struct check_spec *j)
{
    struct err e = {0};
    if (read_law(j, &e) < 0)
        log_error("reload", NULL, NULL, "the warden goes on with the configuration that it has: %s", e.msg);
}

const struct conf *check_spec_conf(const struct check_spec *j)
{
    return j->laws[0].conf;
}

/* ---- parts of a spec ---- */

static int differs(struct err *e, const char *what)
{
    return err_set(e, ERR_REFUSED, "'%s' is not what the configuration says", what);
}

struct known {
    const struct map *hosts[2];
    bool all;
};

static void check_host(void *arg, const struct address *a, const char *path)
{
    struct known *k = arg;
    AUTO_FREE char *key = path ? xstrdup(path) : xasprintf("%s:%d", a->host, a->port);
    k->all &= map_get(k->hosts[0], key) || map_get(k->hosts[1], key);
}

/* Whether the URL names no host that the configuration does not. One that address_of_mongo cannot read names none: an isolated run
 * gets no target by it. */
static bool leads_home(const struct law *l, const struct conf_tenant *t, const char *url)
{
    struct map own = {0};
    if (t)
        address_of_mongo(t->mongo_url, add_host, &own);
    struct known k = {{&l->hosts, &own}, true};
    address_of_mongo(url, check_host, &k);
    map_fini(&own);
    return k.all;
}

static const char *env_of(const struct run_spec *s, const char *name)
{
    const char *value = "";
    for (size_t i = 0; i < s->env.n; i++)
        if (!strcmp(s->env.v[i].name, name))
            value = s->env.v[i].value;
    return value;
}

static bool has_pair(const struct run_pairs *l, const struct run_pair *p)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i].name, p->name) && !strcmp(l->v[i].value, p->value))
            return true;
    return false;
}

static bool same_pairs(const struct run_pairs *a, const struct run_pairs *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = !strcmp(a->v[i].name, b->v[i].name) && !strcmp(a->v[i].value, b->v[i].value);
    return same;
}

/* The rest of `path` below HOME/`part`/; NULL: it is not there. */
static const char *below(const struct check_spec *j, const char *path, const char *part)
{
    AUTO_FREE char *at = xasprintf("%s/%s/", j->home->path, part);
    return strncmp(path, at, strlen(at)) ? NULL : path + strlen(at);
}

/* HOME/work/<id>/in, of a file or of this run's group. */
static bool is_input(const struct trial *c, const char *path)
{
    const char *rest = below(c->j, path, "work");
    char id[ID_SIZE];
    AUTO_FREE char *group = xasprintf("group-%s/in", c->s->run_id);
    if (!rest || !strcmp(rest, group))
        return rest != NULL;
    snprintf(id, sizeof id, "%s", rest);
    return home_valid_id(id) && !strcmp(rest + ID_SIZE - 1, "/in");
}

/* HOME/runs/<id>/output, which an app put out and simbdp-load is to store. */
static bool is_output(const struct trial *c, const char *path)
{
    const char *rest = below(c->j, path, "runs");
    char id[ID_SIZE];
    snprintf(id, sizeof id, "%s", rest ? rest : "");
    return rest && home_valid_id(id) && !strcmp(rest + ID_SIZE - 1, "/output");
}

static bool is_number(const char *text)
{
    return *text && strlen(text) < 20 && strspn(text, "0123456789") == strlen(text);
}

/* ---- what a manager may choose ---- */

/* Of which file's or instance's trace, nobody here knows; it leads nowhere. */
static bool is_trace(const struct run_pair *v)
{
    struct trace_context c;
    char state[TRACE_STATE_BYTES + 1];
    if (!strcmp(v->name, "TRACEPARENT"))
        return strlen(v->value) == TRACE_PARENT_SIZE - 1 && trace_parent_read(v->value, &c) == 0;
    trace_state_read(v->value, state);
    return *state && !strcmp(state, v->value);
}

static bool may_be_env(const struct trial *c, const struct run_pair *v)
{
    AUTO_FREE char *endpoint = xasprintf("ipc://%s/broker.ipc", c->j->home->runtime);
    if (!strcmp(v->name, "SIMBDP_ATTEMPT"))
        return is_number(v->value);
    if (!strcmp(v->name, "MONGO_URL"))
        return leads_home(c->law, c->t, v->value);
    if (!strcmp(v->name, "TRACEPARENT") || (!strcmp(v->name, "TRACESTATE") && !c->stream))
        return is_trace(v);
    if (c->stream)
        return !strcmp(v->name, "ZMQ_STREAM_ENDPOINT") && !strcmp(v->value, endpoint);
    if (!strcmp(v->name, "SIMBDP_INPUT_DIR"))
        return is_input(c, v->value);
    return !strcmp(v->name, "SIMBDP_DATASET") && conf_dataset(c->t, v->value);
}

static int check_env(const struct trial *c, struct err *e)
{
    const struct run_pairs *l = &c->s->env;
    for (size_t i = 0; i < l->n; i++)
        if (!has_pair(&c->want.env, &l->v[i]) && !may_be_env(c, &l->v[i]))
            return err_set(e, ERR_REFUSED, "'env' has %s with a value that the configuration does not give it", l->v[i].name);
    return 0;
}

static int check_args(const struct trial *c, struct err *e)
{
    const struct strs *want = &c->want.args, *is = &c->s->args;
    bool same = c->free_args ? is->n >= want->n : is->n == want->n;
    for (size_t i = 0; same && i < want->n; i++)
        same = !strcmp(want->v[i], is->v[i]);
    return same ? 0 : differs(e, "args");
}

/* First the paths that plan_isolation gives, then the input or the kept output that the step reads. */
static int check_paths(const struct trial *c, struct err *e)
{
    const struct run_pairs *want = &c->want.paths, *is = &c->s->paths;
    bool same = is->n >= want->n && (c->want.full_isolation || !is->n);
    for (size_t i = 0; same && i < want->n; i++)
        same = !strcmp(want->v[i].name, is->v[i].name) && !strcmp(want->v[i].value, is->v[i].value);
    for (size_t i = want->n; same && i < is->n; i++)
        same = c->batch && !strcmp(is->v[i].value, "r") && (is_input(c, is->v[i].name) || is_output(c, is->v[i].name));
    return same ? 0 : differs(e, "paths");
}

static int check_files(const struct trial *c, struct err *e)
{
    const struct run_spec *s = c->s;
    const char *in = env_of(s, "SIMBDP_INPUT_DIR");
    size_t n = strlen(in);
    for (size_t i = 0; i < s->files.n; i++)
        if (!c->batch || (strcmp(s->files.v[i].name, "input.jsonl") && strcmp(s->files.v[i].name, "job.json")))
            return differs(e, "files");
    if (*s->stdin_path && (!n || strncmp(s->stdin_path, in, n) || s->stdin_path[n] != '/' || strchr(s->stdin_path + n + 1, '/') ||
                           s->stdin_path[n + 1] == '.'))
        return differs(e, "stdin_path");
    return 0;
}

/* The directory that the configuration names, or one below state/images, where only simbdp-image writes. */
static int check_image(const struct trial *c, const char *image, struct err *e)
{
    const char *tag, *is = c->s->image;
    AUTO_FREE char *path = home_image(c->j->home, c->t->id, image, &tag);
    AUTO_FREE char *part = xasprintf("state/images/%s", c->t->id);
    const char *rest = below(c->j, is, part);
    bool good = !*image ? !*is : !strcmp(is, path) || (rest && *rest && *rest != '.' && !strchr(rest, '/'));
    return good ? 0 : differs(e, "image");
}

/* ---- what it should be ---- */

static void want_batch(struct trial *c)
{
    struct run_spec *w = &c->want;
    const struct check_spec *j = c->j;
    const struct conf_batch *a = c->batch;
    bool load = w->step == RUN_STEP_load, check = w->step == RUN_STEP_check;
    w->builtin = load || (!check && !strcmp(a->exec, BUILTIN_LOAD));
    w->exec = w->builtin ? home_program(j->home, "simbdp-load")
                         : plan_exec(j->home, w->tenant, w->app, w->version, check ? a->checker : a->exec);
    w->output = load || check ? RUN_OUTPUT_none : a->output;
    plan_limits(w, c->p);
    plan_isolation(w, &(struct plan_host){j->home, j->isolation, c->law->conf->platform.uid_base}, c->p, env_of(c->s, "MONGO_URL"));
    app_env_add_configured(w, &c->p->env);
    if (w->builtin) {
        AUTO_FREE char *job = xasprintf("%s/job.json", w->dir);
        plan_builtin(w, j->home);
        app_env_add(w, "SIMBDP_LOAD_JOB", job);
    } else {
        app_env_add_configured(w, &a->env);
        plan_secrets(w, j->home, w->tenant, &a->secrets);
        for (size_t i = 0; i < a->args.n && !check; i++)
            plan_arg(w, a->args.v[i]);
        app_env_add_publishing(w, c->t);
    }
    app_env_add_app_dir(w, j->home, load ? BUILTIN_LOAD : check ? a->checker : a->exec);
    AUTO_FREE char *list = xasprintf("%s/input.jsonl", w->dir), *out = xasprintf("%s/app/out", w->dir);
    app_env_add(w, "SIMBDP_INPUT_FILES", list);
    app_env_add(w, "SIMBDP_OUTPUT_DIR", out);
}

static void want_stream(struct trial *c)
{
    struct run_spec *w = &c->want;
    const struct check_spec *j = c->j;
    const struct conf_stream_app *a = c->stream;
    bool stores = a->output != RUN_OUTPUT_none, loads = !strcmp(a->exec, BUILTIN_LOAD);
    AUTO_FREE char *exec = plan_exec(j->home, w->tenant, w->app, w->version, a->exec);
    w->output = RUN_OUTPUT_none;
    plan_limits(w, c->p);
    w->wall_s = w->cpu_s = -1;
    w->grace_s = a->drain_s;
    app_env_add_configured(w, &c->p->env);
    w->exec = loads || stores ? home_program(j->home, "simbdp-load") : xstrdup(exec);
    if (loads || stores) {
        plan_builtin(w, j->home);
        plan_arg(w, "--stream");
        plan_checker(w, j->home, a);
    }
    if (stores) {
        plan_arg(w, "--output");
        plan_arg(w, run_output_name(a->output));
        plan_arg(w, "--");
        plan_arg(w, exec);
    }
    plan_isolation(w, &(struct plan_host){j->home, j->isolation, c->law->conf->platform.uid_base}, c->p, env_of(c->s, "MONGO_URL"));
    plan_checker_path(w, j->home, a);
    c->free_args = !loads;
    for (size_t i = 0; i < a->args.n && loads; i++)
        plan_arg(w, a->args.v[i]);
    app_env_add_configured(w, &a->env);
    plan_secrets(w, j->home, w->tenant, &a->secrets);
    app_env_add_app_dir(w, j->home, stores || !*a->checker ? a->exec : a->checker);
    app_env_add_stream(w, c->t, a);
}

static bool has_step(const struct trial *c, enum run_step step)
{
    switch (step) {
    case RUN_STEP_app:
        return true;
    case RUN_STEP_check:
        return c->batch && *c->batch->checker;
    case RUN_STEP_load:
        return c->batch && c->batch->output != RUN_OUTPUT_none;
    default:
        return false;
    }
}

/* Finds what the spec's own names stand for: everything else is planned from that. */
static int find_app(struct trial *c, struct err *e)
{
    const struct run_spec *s = c->s;
    c->t = conf_tenant(c->law->conf, s->tenant);
    c->batch = c->t && !c->j->streams ? conf_app(c->t, s->app) : NULL;
    c->stream = c->t && c->j->streams ? conf_stream_app(c->t, s->app) : NULL;
    if (!home_valid_id(s->run_id))
        return err_set(e, ERR_REFUSED, "'run_id' is not a run id");
    if ((!c->batch && !c->stream) || (c->stream && !*c->stream->exec))
        return err_set(e, ERR_REFUSED, "the configuration has no such app");
    if (!has_step(c, s->step))
        return err_set(e, ERR_REFUSED, "'step' is not a step of this app");
    c->p = conf_profile(c->law->conf, c->batch ? c->batch->profile : c->stream->profile);
    return 0;
}

/* The version that is active, or was until a moment ago: the manager planned the run a moment before it comes here. */
static int check_version(const struct trial *c, struct err *e)
{
    struct app_active a;
    const char *version = c->s->step == RUN_STEP_load ? "" : c->s->version;
    if (app_version_read(c->j->home, c->t->id, c->s->app, &a, NULL) < 0)
        a = (struct app_active){.version = APP_VERSION_UNKNOWN};
    if (strcmp(version, c->s->version) != 0)
        return differs(e, "version");
    if (c->s->step == RUN_STEP_load || !strcmp(version, a.version))
        return 0;
    return !strcmp(version, a.before) && clk_wall_ms() - a.since_ms < VERSION_MS ? 0 : differs(e, "version");
}

static void want_names(struct trial *c)
{
    const struct run_spec *s = c->s;
    const struct home *h = c->j->home;
    bool load = s->step == RUN_STEP_load;
    c->want = (struct run_spec){
        .run_id = xstrdup(s->run_id),
        .step = s->step,
        .tenant = xstrdup(c->t->id),
        .app = xstrdup(s->app),
        .home = xstrdup(h->path),
        .dir = xasprintf("%s/runs/%s%s", h->path, s->run_id, load ? "/load" : ""),
        .runtime = xstrdup(h->runtime),
        .claim = xasprintf("%s%s", s->run_id, load ? "-load" : ""),
        .tag = xstrdup(h->tag),
        .uid = c->j->uids ? s->uid : -1,
        .gid = c->j->uids ? s->uid : -1,
        .image = *s->image ? xstrdup(s->image) : NULL,
        .stdin_path = xstrdup(s->stdin_path),
        .version = xstrdup(s->version),
    };
}

static int compare(struct trial *c, struct err *e)
{
    const struct run_spec *s = c->s;
    const struct app_env_tenant t = {c->t->id, c->t->database, NULL};
    if (c->batch)
        want_batch(c);
    else
        want_stream(c);
    app_env_add_common(&c->want, &t, s->app, s->run_id, 0);
    const char *field = run_spec_differs(&c->want, s);
    if (field)
        return differs(e, field);
    if (!leads_home(c->law, c->t, env_of(s, "MONGO_URL")))
        return err_set(e, ERR_REFUSED, "MONGO_URL leads elsewhere than the configuration says");
    if (!same_pairs(&c->want.secrets, &s->secrets))
        return differs(e, "secrets");
    if (!same_pairs(&c->want.targets, &s->targets))
        return differs(e, "targets");
    int r = check_args(c, e);
    if (r == 0)
        r = check_paths(c, e);
    if (r == 0)
        r = check_files(c, e);
    return r == 0 ? check_env(c, e) : r;
}

static int check_spec_by(struct check_spec *j, const struct law *law, const struct run_spec *s, struct err *e)
{
    struct trial c = {.j = j, .law = law, .s = s};
    int r = find_app(&c, e);
    assert(r < 0 || (c.t && (c.batch || c.stream)));
    if (r == 0 && j->uids)
        r = tenant_uids_check(j->uids, s->uid, s->tenant, e);
    if (r == 0)
        r = check_image(&c, s->step == RUN_STEP_load ? "" : c.batch ? c.batch->image : c.stream->image, e);
    if (r == 0)
        r = check_version(&c, e);
    if (r < 0)
        return r;
    want_names(&c);
    r = compare(&c, e);
    run_spec_free(&c.want);
    return r;
}

/* The manager may have read the configuration a moment before or after the warden did, so either of two versions is good. */
int check_spec_spec(struct check_spec *j, const struct run_spec *s, struct err *e)
{
    int r = check_spec_by(j, &j->laws[0], s, e);
    if (r < 0 && j->laws[1].conf)
        r = check_spec_by(j, &j->laws[1], s, NULL);
    if (r < 0 && clk_now_ms() - j->reloaded_ms >= RELOAD_MS) {
        check_spec_reload(j);
        r = check_spec_by(j, &j->laws[0], s, e);
    }
    return r;
}

int check_spec_mongo(struct check_spec *j, const char *tenant, const char *url, struct err *e)
{
    const struct law *l = &j->laws[0];
    return leads_home(l, conf_tenant(l->conf, tenant), url)
               ? 0
               : err_set(e, ERR_REFUSED, "the URL leads elsewhere than the configuration says");
}

int check_spec_tenant(struct check_spec *j, const char *tenant, int64_t uid, struct err *e)
{
    if (!conf_tenant(j->laws[0].conf, tenant))
        return err_set(e, ERR_REFUSED, "the configuration has no such tenant");
    if (!j->uids)
        return uid == -1 ? 0 : err_set(e, ERR_REFUSED, "this home gives no uids to tenants");
    return tenant_uids_check(j->uids, uid, tenant, e);
}

bool check_spec_image(struct check_spec *j, const char *tenant, const char *image)
{
    const struct conf_tenant *t = conf_tenant(j->laws[0].conf, tenant);
    const struct conf_batch *b = t ? t->batch.v : NULL;
    const struct conf_stream_app *a = t ? t->stream_apps.v : NULL;
    bool found = false;
    for (size_t i = 0; t && *image && i < t->batch.n && !found; i++)
        found = !strcmp(b[i].image, image);
    for (size_t i = 0; t && *image && i < t->stream_apps.n && !found; i++)
        found = !strcmp(a[i].image, image);
    return found;
}
