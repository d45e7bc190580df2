/* A tenant's apps, from the configuration, and how many runs of each there are now. Batch apps:
 *   {"app","kind":"batch","datasets":[…],"pattern","trigger","timezone","priority","output","running"}
 * stream apps:
 *   {"app","kind":"stream","stream","min_instances","max_instances","on_demand","delivery","output","running"} */
#include "parts.h"

#include "base/map.h"
#include "base/mem.h"
#include "run/kinds.h"

/* app -> int64_t */
static int count_running(struct asking *a, struct map *counts)
{
    static const char sql[] =
        "SELECT app, count(*) FROM (SELECT app FROM runs WHERE state<>'ended' AND +tenant=:tenant UNION ALL SELECT "
        "app FROM streams.instances WHERE state<>'ended' AND +tenant=:tenant) GROUP BY app";
    AUTO_STATEMENT sqlite3_stmt *s = prepare(a, sql);
    int r = s ? sqlite3_step(s) : SQLITE_ERROR;
    if (!s)
        return ERR_REFUSED;
    for (; r == SQLITE_ROW; r = sqlite3_step(s)) {
        int64_t *n = xmalloc(sizeof *n);
        *n = sqlite3_column_int64(s, 1);
        map_put(counts, (const char *)sqlite3_column_text(s, 0), n);
    }
    return r == SQLITE_DONE ? 0 : refuse_for_db(a);
}

static int64_t count_of(const struct map *counts, const char *app)
{
    const int64_t *n = map_get(counts, app);
    return n ? *n : 0;
}

static void forget_counts(struct map *counts)
{
    size_t i = 0;
    for (void *n; (n = map_next(counts, &i));)
        free(n);
    map_fini(counts);
}

static void show_batch(struct buf *b, const struct conf_batch *c, const struct map *counts)
{
    json_begin(b, NULL, '{');
    json_str(b, "app", c->app);
    json_str(b, "kind", "batch");
    json_begin(b, "datasets", '[');
    for (size_t i = 0; i < c->datasets.n; i++)
        json_str(b, NULL, c->datasets.v[i]);
    json_end(b, ']');
    json_str(b, "pattern", c->pattern);
    json_str(b, "trigger", c->trigger);
    json_str(b, "timezone", c->timezone);
    json_i64(b, "priority", c->priority);
    json_str(b, "output", run_output_name(c->output));
    json_i64(b, "running", count_of(counts, c->app));
    json_end(b, '}');
}

static void show_stream(struct buf *b, const struct conf_stream_app *c, const struct map *counts)
{
    json_begin(b, NULL, '{');
    json_str(b, "app", c->app);
    json_str(b, "kind", "stream");
    json_str(b, "stream", *c->stream ? c->stream : NULL);
    json_i64(b, "min_instances", c->min_instances);
    json_i64(b, "max_instances", c->max_instances);
    json_bool(b, "on_demand", c->on_demand);
    json_str(b, "delivery", conf_delivery_name(c->delivery));
    json_str(b, "output", run_output_name(c->output));
    json_i64(b, "running", count_of(counts, c->app));
    json_end(b, '}');
}

int ask_apps(struct asking *a)
{
    const struct conf_tenant *t = tenant_of_conf(a);
    struct buf *b = &a->out->body;
    struct map counts = {0};
    if (!t)
        return ERR_REFUSED;
    const struct conf_batch *batch = t->batch.v;
    const struct conf_stream_app *streams = t->stream_apps.v;
    int r = count_running(a, &counts);
    json_begin(b, NULL, '{');
    json_begin(b, "apps", '[');
    for (size_t i = 0; i < t->batch.n; i++)
        show_batch(b, &batch[i], &counts);
    for (size_t i = 0; i < t->stream_apps.n; i++)
        show_stream(b, &streams[i], &counts);
    json_end(b, ']');
    json_end(b, '}');
    forget_counts(&counts);
    return r;
}
