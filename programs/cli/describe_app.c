/* An app: as it is configured, what waits for it, what of it runs, and what it waits for. */
#include "describe.h"

#include "base/clk.h"
#include "base/mem.h"
#include "conf/cron.h"
#include "run/kinds.h"

#include <string.h>

static void add_strings(struct buf *b, const char *key, const struct strs *v)
{
    json_begin(b, key, '[');
    for (size_t i = 0; i < v->n; i++)
        json_str(b, NULL, v->v[i]);
    json_end(b, ']');
}

/* Limits of its profile; null: none. */
static void add_profile(struct thing *t, const char *name)
{
    const struct conf_profile *p = conf_profile(t->conf, name);
    struct buf *b = &t->out;
    json_str(b, "profile", name);
    if (!p)
        return;
    json_begin(b, "limits", '{');
    json_i64_or_null(b, "wall_s", p->wall_s);
    json_f64(b, "cpus", p->requests.cpus);
    json_i64(b, "memory_bytes", p->requests.memory_bytes);
    json_i64_or_null(b, "cgroup_cpu_pct", p->cgroup.cpu_pct);
    json_i64_or_null(b, "cgroup_memory_bytes", p->cgroup.memory_bytes);
    json_i64_or_null(b, "cgroup_pids", p->cgroup.pids);
    json_i64_or_null(b, "scratch_bytes", p->scratch_bytes);
    json_str(b, "isolation", conf_isolation_name(p->isolation));
    add_strings(b, "network", &p->network);
    json_end(b, '}');
}

static void add_last_runs(struct thing *t)
{
    AUTO_BUF struct buf params = {0};
    json_begin(&params, NULL, '{');
    json_str(&params, "app", t->id);
    json_i64(&params, "limit", 5);
    json_end(&params, '}');
    AUTO_BSON bson_t *doc = describe_query(t, "runs", params.p, false);
    bson_iter_t it;
    bson_t one;
    json_begin(&t->out, "last_runs", '[');
    if (doc && json_get_iter(doc, "runs", &it))
        while (json_next_doc(&it, &one)) {
            AUTO_BUF struct buf b = {0};
            json_from_bson(&one, &b);
            json_raw(&t->out, NULL, b.p);
        }
    json_end(&t->out, ']');
}

/* ---- of files ---- */

static const char *const states[] = {"received", "queued", "running", "waiting"};
enum { N_STATES = sizeof states / sizeof *states };

/* Unfinished files that the app takes, by state. */
static int64_t add_files(struct thing *t, const struct conf_tenant *tenant, const struct conf_batch *app)
{
    static const char sql[] =
        "SELECT state, NULLIF(app,''), dataset, name FROM files WHERE (state IN('received','queued','running',"
        "'waiting') OR place='work') AND +tenant=?";
    int64_t counts[N_STATES] = {0}, sum = 0;
    sqlite3_stmt *s = NULL;
    if (t->db && sqlite3_prepare_v2(t->db, sql, -1, &s, NULL) == SQLITE_OK)
        sqlite3_bind_text(s, 1, t->tenant, -1, SQLITE_STATIC);
    while (s && sqlite3_step(s) == SQLITE_ROW)
        for (size_t i = 0; i < N_STATES; i++)
            counts[i] += !strcmp(states[i], (const char *)sqlite3_column_text(s, 0)) &&
                         conf_route(tenant, (const char *)sqlite3_column_text(s, 1), (const char *)sqlite3_column_text(s, 2),
                                    (const char *)sqlite3_column_text(s, 3)) == app;
    sqlite3_finalize(s);
    json_begin(&t->out, "files", '{');
    for (size_t i = 0; i < N_STATES; sum += counts[i++])
        if (counts[i])
            json_i64(&t->out, states[i], counts[i]);
    json_end(&t->out, '}');
    return sum;
}

static bool is_parked(const struct thing *t)
{
    AUTO_FREE char *name = xasprintf("%s/%s", t->tenant, t->id);
    bson_iter_t it;
    bool found = false;
    if (t->platform && json_get_iter(t->platform, "parked_apps", &it))
        while (!found && bson_iter_next(&it))
            found = BSON_ITER_HOLDS_UTF8(&it) && !strcmp(bson_iter_utf8(&it, NULL), name);
    return found;
}

static int64_t next_time_ms(const struct conf_batch *app)
{
    struct cron *c = NULL;
    if (strncmp(app->trigger, CONF_CRON, strlen(CONF_CRON)) != 0 ||
        cron_new(app->trigger + strlen(CONF_CRON), app->timezone, &c, NULL) < 0)
        return 0;
    int64_t at = cron_next(c, clk_wall_ms());
    cron_free(c);
    return at > 0 ? at : 0;
}

void describe_batch_app(struct thing *t, const struct conf_tenant *tenant, const struct conf_batch *app)
{
    struct buf *b = &t->out;
    const int64_t next_ms = next_time_ms(app);
    char stamp[CLK_RFC3339_SIZE];
    json_str(b, "tenant_id", tenant->id);
    json_str(b, "app", app->app);
    json_str(b, "exec", app->exec);
    json_str(b, "image", app->image);
    add_strings(b, "args", &app->args);
    add_strings(b, "datasets", &app->datasets);
    json_str(b, "pattern", app->pattern);
    json_str(b, "trigger", app->trigger);
    json_time(b, "next_at", next_ms);
    json_i64(b, "priority", app->priority);
    json_str(b, "output", run_output_name(app->output));
    json_str(b, "checker", app->checker);
    json_i64(b, "attempts", app->retry.attempts);
    add_profile(t, app->profile);
    const int64_t n = add_files(t, tenant, app);
    add_last_runs(t);
    if (is_parked(t))
        describe_why(t, "%s cannot be executed and is parked until it or the configuration changes; `mysimbdp runs` says why",
                     app->exec);
    if (n && next_ms)
        describe_why(t, "its files wait for its trigger, the next time at %.19s; `mysimbdp run %s/%s` lets them go now",
                     clk_rfc3339(next_ms, stamp), tenant->id, app->app);
    else if (n && !strcmp(app->trigger, CONF_MANUAL))
        describe_why(t, "its files wait for `mysimbdp run %s/%s`", tenant->id, app->app);
    if (n)
        describe_why_tenant(t, !strcmp(app->trigger, CONF_ARRIVAL));
}

/* ---- of messages ---- */

static bson_t *ask(const struct thing *t, const char *socket_name, const char *op)
{
    AUTO_BUF struct buf rq = {0};
    bson_t *doc = NULL;
    json_begin(&rq, NULL, '{');
    json_str(&rq, "op", op);
    json_str(&rq, "tenant_id", t->tenant);
    json_end(&rq, '}');
    return cli_request_now(t->h, socket_name, rq.p, &doc, NULL) < 0 ? NULL : doc;
}

bool describe_row(struct thing *t, const char *key, const bson_t *answer, const char *array, bson_t *ret)
{
    bson_iter_t it;
    if (!answer || !json_get_iter(answer, array, &it))
        return false;
    while (json_next_doc(&it, ret))
        if (!strcmp(json_get_str(ret, "app", ""), t->id)) {
            AUTO_BUF struct buf b = {0};
            json_from_bson(ret, &b);
            json_raw(&t->out, key, b.p);
            return true;
        }
    return false;
}

void describe_stream_app(struct thing *t, const struct conf_tenant *tenant, const struct conf_stream_app *app)
{
    AUTO_BSON bson_t *instances = ask(t, "streammgr.sock", "apps"), *queues = ask(t, "broker.sock", "queues"),
                     *board = ask(t, "monitor.sock", "board");
    struct buf *b = &t->out;
    bson_t row;
    json_str(b, "tenant_id", tenant->id);
    json_str(b, "app", app->app);
    json_str(b, "stream", app->stream);
    json_str(b, "exec", app->exec);
    json_str(b, "image", app->image);
    add_strings(b, "args", &app->args);
    json_str(b, "dataset", app->dataset);
    json_str(b, "output", run_output_name(app->output));
    json_str(b, "delivery", conf_delivery_name(app->delivery));
    json_i64(b, "min_instances", app->min_instances);
    json_i64(b, "max_instances", app->max_instances);
    json_bool(b, "on_demand", app->on_demand);
    add_profile(t, app->profile);
    if (describe_row(t, "instances", instances, "apps", &row) && *json_get_str(&row, "reason", ""))
        describe_why(t, "%s", json_get_str(&row, "reason", ""));
    if (describe_row(t, "queue", queues, "queues", &row) && strcmp(json_get_str(&row, "state", "open"), "open") != 0)
        describe_why(t, "the stream is %s", json_get_str(&row, "state", ""));
    if (describe_row(t, "load", board, "rows", &row)) {
        if (*json_get_str(&row, "why", ""))
            describe_why(t, "the monitor: %s", json_get_str(&row, "why", ""));
    }
    add_last_runs(t);
    if (!instances)
        describe_why(t, "streammgr does not answer: `mysimbdp status`");
    if (!queues && *app->stream)
        describe_why(t, "the broker does not answer: `mysimbdp status`");
}
