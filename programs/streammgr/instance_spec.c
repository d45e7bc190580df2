#include "instance_spec.h"
#include "app.h"
#include "streammgr.h"
#include "tenant_facts.h"
#include "watcher.h"

#include "base/json.h"
#include "base/mem.h"
#include "host/app_version.h"
#include "host/trace_ids.h"
#include "manager/app_env.h"
#include "manager/plan.h"

#include <string.h>
#include <xxhash.h>

/* The trace of the instance's life. Not of nobody's: an upgrade to a version that has this would replace every instance. */
static void add_trace(struct run_spec *s, const struct instance *i)
{
    struct trace_context c;
    char parent[TRACE_PARENT_SIZE];
    if (!*i->run_id)
        return;
    trace_of(NULL, i->run_id, &c);
    trace_parent_write(&c, parent);
    app_env_add_trace(s, parent, "");
}

static void add_args(struct run_spec *s, const struct instance *i, const struct conf_stream_app *c)
{
    const struct app *a = i->app;
    bson_iter_t it;
    const struct ask *ask = ask_of(a, i->ask);
    const char *args = ask ? ask->args : a->args;
    AUTO_BSON bson_t *doc = args ? json_parse(args, strlen(args), NULL) : NULL;
    for (size_t k = 0; !doc && k < c->args.n; k++)
        plan_arg(s, c->args.v[k]);
    if (doc && json_get_iter(doc, "args", &it))
        while (bson_iter_next(&it))
            if (BSON_ITER_HOLDS_UTF8(&it))
                plan_arg(s, bson_iter_utf8(&it, NULL));
}

/* The app's own program, or simbdp-load, which stores what it reads or what COMMAND behind `--` makes of it. */
static void add_command(struct run_spec *s, const struct streammgr *m, const struct conf_stream_app *c)
{
    bool stores = c->output != RUN_OUTPUT_none;
    AUTO_FREE char *exec = plan_exec(&m->home, s->tenant, s->app, s->version, c->exec);
    if (!strcmp(c->exec, BUILTIN_LOAD) || stores) {
        s->exec = home_program(&m->home, "simbdp-load");
        plan_builtin(s, &m->home);
        plan_arg(s, "--stream");
        plan_checker(s, &m->home, c);
        if (stores) {
            plan_arg(s, "--output");
            plan_arg(s, run_output_name(c->output));
            plan_arg(s, "--");
            plan_arg(s, exec);
        }
    } else {
        s->exec = xstrdup(exec);
    }
}

void instance_spec_make(const struct instance *i, const struct conf_tenant *t, const struct conf_stream_app *c,
                        struct run_spec *ret)
{
    struct streammgr *m = i->app->mgr;
    const struct conf_profile *p = conf_profile(m->conf, c->profile);
    const struct tenant_facts *f = tenant_facts_of(m, t->id);
    bool stores = c->output != RUN_OUTPUT_none;
    struct run_spec s = {.run_id = xstrdup(i->run_id),
                         .step = RUN_STEP_app,
                         .tenant = xstrdup(t->id),
                         .app = xstrdup(c->app),
                         .home = xstrdup(m->home.path),
                         .dir = xasprintf("%s/runs/%s", m->home.path, i->run_id),
                         .runtime = xstrdup(m->home.runtime),
                         .claim = xstrdup(i->run_id),
                         .tag = xstrdup(m->home.tag),
                         .uid = f->uid,
                         .gid = f->uid,
                         .image = *c->image ? xstrdup(i->app->image) : NULL,
                         .stdin_path = xstrdup(""),
                         .output = RUN_OUTPUT_none};
    char version[APP_VERSION_SIZE];
    app_version_active(&m->home, t->id, c->app, version);
    s.version = xstrdup(version);
    plan_limits(&s, p);
    s.wall_s = s.cpu_s = -1; /* an instance runs until it is told to go */
    s.grace_s = c->drain_s;
    app_env_add_configured(&s, &p->env);
    add_command(&s, m, c);
    plan_isolation(&s, &(struct plan_host){&m->home, &m->isolation, m->conf->platform.uid_base}, p, f->mongo_url);
    plan_checker_path(&s, &m->home, c);
    add_args(&s, i, c);
    app_env_add_configured(&s, &c->env);
    plan_secrets(&s, &m->home, t->id, &c->secrets);
    app_env_add_common(&s, &(struct app_env_tenant){t->id, t->database, f->mongo_url}, c->app, i->run_id, i->attempt);
    app_env_add_app_dir(&s, &m->home, stores || !*c->checker ? c->exec : c->checker);
    app_env_add(&s, "ZMQ_STREAM_ENDPOINT", watcher_endpoint(m->watcher));
    app_env_add_stream(&s, t, c);
    add_trace(&s, i);
    *ret = s;
}

/* The platform's own programs are left out, so that an upgrade, which moves them, does not replace every instance. */
static uint64_t hash(struct app *a, const struct conf_tenant *t, const struct conf_stream_app *c)
{
    struct instance nobody = {.app = a};
    struct run_spec s;
    AUTO_BUF struct buf text = {0};
    instance_spec_make(&nobody, t, c, &s);
    if (s.builtin)
        xstr_set(&s.exec, c->exec);
    xstr_set(&s.relay, "");
    s.cluster = conf_launcher_of(a->mgr->conf, conf_profile(a->mgr->conf, c->profile)) == LAUNCHER_slurm;
    run_spec_write(&s, &text);
    run_spec_free(&s);
    return XXH3_64bits_withSeed(text.p, text.n, (uint64_t)a->identity);
}

uint64_t instance_spec_generation(struct app *a)
{
    struct streammgr *m = a->mgr;
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    if (!c || !tenant_facts_of(m, a->tenant) || !watcher_endpoint(m->watcher))
        return 0;
    AUTO_FREE char *exec = plan_active_exec(&m->home, t->id, c->app, c->exec);
    bool of_host = strncmp(c->exec, "builtin:", 8) && (!*c->image || c->exec[0] != '/');
    int64_t identity = (of_host ? plan_exec_identity(exec) : 0) ^ a->image_identity ^ app_checker_identity(a);
    if (*c->image && !a->image) /* until the image is known, nothing is replaced */
        return a->generation;
    if (a->generation_of != m->version || a->identity != identity || !a->generation) {
        a->identity = identity;
        a->generation = hash(a, t, c);
        a->generation_of = m->version;
    }
    return a->generation;
}
