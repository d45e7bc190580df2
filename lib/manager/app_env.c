#include "app_env.h"

#include "base/fd.h"
#include "base/mem.h"
#include "host/app_version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void app_env_add(struct run_spec *s, const char *name, const char *value)
{
    run_pairs_add(&s->env, name, value);
}

static struct run_pair *find(struct run_spec *s, const char *name)
{
    for (size_t i = 0; i < s->env.n; i++)
        if (!strcmp(s->env.v[i].name, name))
            return &s->env.v[i];
    return NULL;
}

void app_env_add_configured(struct run_spec *s, const struct cfg_list *env)
{
    const struct conf_env *v = env->v;
    for (size_t i = 0; i < env->n; i++) {
        struct run_pair *set = find(s, v[i].name);
        if (set) /* the app's goes over the profile's */
            xstr_set(&set->value, v[i].value);
        else
            app_env_add(s, v[i].name, v[i].value);
    }
}

void app_env_add_common(struct run_spec *s, const struct app_env_tenant *t, const char *app, const char *run_id, int64_t attempt)
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
        {"MONGOC_DISABLE_SHM", "1"}, /* of libmongoc: a killed app would leave a file in the host's /dev/shm */
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
        if (!find(s, env[i].name))
            app_env_add(s, env[i].name, env[i].value);
}

void app_env_add_trace(struct run_spec *s, const char *parent, const char *state)
{
    if (find(s, "TRACEPARENT"))
        return;
    app_env_add(s, "TRACEPARENT", parent);
    if (*state && !find(s, "TRACESTATE"))
        app_env_add(s, "TRACESTATE", state);
}

void app_env_add_app_dir(struct run_spec *s, const struct home *h, const char *exec)
{
    bool ours = !*exec || !strncmp(exec, "builtin:", 8);
    AUTO_FREE char *dir = ours ? home_exec(h, s->tenant, "x") : app_version_exec(h, s->tenant, s->app, s->version, exec);
    *strrchr(dir, '/') = 0;
    app_env_add(s, "SIMBDP_APP_DIR", *dir ? dir : "/");
    if (!*s->version)
        return;
    AUTO_FREE char *python = app_version_path(s->tenant, s->app, s->version), *rel = xasprintf("%s/" APP_VERSION_PYTHON, python);
    AUTO_FREE char *path = home_path(h, rel);
    app_env_add(s, "SIMBDP_APP_VERSION", s->version);
    if (fd_exists(h->dirfd, rel))
        app_env_add(s, "PYTHONPATH", path);
}

void app_env_add_publishing(struct run_spec *s, const struct conf_tenant *t)
{
    AUTO_FREE char *endpoint = xasprintf("ipc://%s/broker.ipc", s->runtime);
    if (t->streams.n)
        app_env_add(s, "ZMQ_STREAM_ENDPOINT", endpoint);
}

/* A test may have a platform program crash, or watch its memory; tenants' programs never see these. */
void app_env_add_builtin(struct run_spec *s)
{
    static const char *const names[] = {"SIMBDP_CRASH_AT", "SIMBDP_CRASH_ONCE", "ASAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]))
            app_env_add(s, names[i], getenv(names[i]));
    app_env_add(s, "MONGOC_DISABLE_SHM", "1"); /* counters in /dev/shm would outlive a killed loader */
}

static void add_delivery(struct run_spec *s, const struct conf_stream_app *c)
{
    if (c->delivery != DELIVERY_exactly_once)
        app_env_add(s, "SIMBDP_DELIVERY", conf_delivery_name(c->delivery));
}

static void add_number(struct run_spec *s, const char *name, int64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)n);
    if (n >= 0)
        app_env_add(s, name, text);
}

static void add_message_limits(struct run_spec *s, const struct conf_limits *l, const struct conf_dataset *d)
{
    if (d->inspect != CONF_INSPECT_full)
        app_env_add(s, "SIMBDP_QUALITY", "0");
    add_number(s, "SIMBDP_MAX_ROWS", l->max_rows);
    add_number(s, "SIMBDP_MAX_COLUMNS", l->max_columns);
}

void app_env_add_stream(struct run_spec *s, const struct conf_tenant *t, const struct conf_stream_app *c)
{
    const struct conf_dataset *d = *c->dataset ? conf_dataset(t, c->dataset) : NULL;
    AUTO_FREE char *full = xasprintf("%s/%s", t->id, c->stream);
    app_env_add(s, "SIMBDP_STREAM", s->uid >= 0 ? c->stream : full); /* who has our uid is not one tenant to the broker */
    app_env_add(s, "SIMBDP_DATASET", c->dataset);
    add_delivery(s, c);
    if (d) {
        AUTO_BUF struct buf spec = {0};
        struct conf_limits l = conf_effective_limits(t, d);
        conf_spec_json(d, true, l.max_row_bytes, 0, &spec);
        app_env_add(s, "SIMBDP_SCHEMA", spec.p);
        app_env_add(s, "SIMBDP_COLLECTION", d->collection);
        add_message_limits(s, &l, d);
    }
}
