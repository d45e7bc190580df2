#include "stats_streams.h"
#include "term/table.h"

#include "base/clk.h"
#include "base/map.h"
#include "base/mem.h"
#include "host/stream_log.h"
#include "read/quality.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DAY_MS = 86400000 };

/* What an app did on one day. */
struct app_day {
    char *key, *tenant, *app, *stream; /* stream NULL: nothing is known of the app's stream */
    int64_t day, messages, bytes, rows, dead;
    double ms; /* summed over all messages */
    bool read; /* whether there are figures of quality */
    struct quality quality;
};

struct gathering {
    struct map days;
    const char *tenant;
    int64_t since_ms;
};

static struct app_day *day_of(struct gathering *g, const char *tenant, const char *app, int64_t day)
{
    AUTO_FREE char *key = xasprintf("%s/%s/%012lld", tenant, app, (long long)day);
    struct app_day *d = map_get(&g->days, key);
    if (d)
        return d;
    d = xcalloc(1, sizeof *d);
    *d = (struct app_day){.key = xstrdup(key), .tenant = xstrdup(tenant), .app = xstrdup(app), .day = day};
    map_put(&g->days, key, d);
    return d;
}

static void free_day(struct app_day *d)
{
    free(d->key);
    free(d->tenant);
    free(d->app);
    free(d->stream);
    if (d->read)
        quality_fini(&d->quality);
    free(d);
}

static void add_interval(void *arg, const struct stream_interval *v, int sign)
{
    struct gathering *g = arg;
    if (!v->of_app || clk_day(v->at_ms) < clk_day(g->since_ms))
        return;
    struct app_day *d = day_of(g, g->tenant, v->app, clk_day(v->at_ms));
    xstr_set(&d->stream, v->stream);
    d->messages += sign * v->messages;
    d->bytes += sign * v->bytes;
    d->rows += sign * v->rows;
    d->dead += sign * v->dead;
    d->ms += sign * v->ms;
}

/* Running instances, and the sums that those that ended left, are added alike. */
static void add_qualities(struct gathering *g, sqlite3 *db)
{
    static const char sql[] = "SELECT app, day, quality FROM streams.quality WHERE tenant=?1 AND day>=?2";
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        return; /* a book of an earlier version has none */
    sqlite3_bind_text(s, 1, g->tenant, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, clk_day(g->since_ms));
    while (sqlite3_step(s) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(s, 2);
        AUTO_BSON bson_t *kept = text ? json_parse(text, strlen(text), NULL) : NULL;
        struct app_day *d = day_of(g, g->tenant, (const char *)sqlite3_column_text(s, 0), sqlite3_column_int64(s, 1));
        if (!d->read)
            quality_init(&d->quality, d->day);
        d->read = true;
        if (kept)
            quality_add_kept(&d->quality, kept);
    }
    sqlite3_finalize(s);
}

static void day_text(int64_t day, char out[CLK_RFC3339_SIZE])
{
    clk_rfc3339(day * DAY_MS, out);
    out[strcspn(out, "T")] = 0;
}

static void print_json(const struct app_day *d)
{
    AUTO_BUF struct buf b = {0};
    char day[CLK_RFC3339_SIZE];
    day_text(d->day, day);
    json_begin(&b, NULL, '{');
    json_str(&b, "tenant_id", d->tenant);
    json_str(&b, "app", d->app);
    json_str(&b, "stream", d->stream);
    json_str(&b, "day", day);
    json_i64(&b, "messages", d->messages);
    json_i64(&b, "bytes", d->bytes);
    json_i64(&b, "rows", d->rows);
    json_i64(&b, "messages_dead", d->dead);
    json_f64(&b, "avg_message_ms", d->messages ? d->ms / (double)d->messages : NAN);
    if (d->read)
        quality_show(&d->quality, "quality", &b);
    else
        json_null(&b, "quality");
    json_end(&b, '}');
    puts(b.p);
}

static const struct col cols[] = {
    {"tenant", COL_TEXT, 1},   {"app", COL_TEXT, 1},    {"day", COL_TEXT, 1},         {"messages", COL_COUNT, 1},
    {"bytes", COL_COUNT, 5},   {"rows", COL_COUNT, 1},  {"dead", COL_COUNT, 2},       {"avg_ms", COL_NUMBER, 6},
    {"columns", COL_COUNT, 4}, {"nulls", COL_COUNT, 4}, {"refused for", COL_LONG, 2},
};

static char *count_cell(int64_t n)
{
    return xasprintf("%lld", (long long)n);
}

static void add_row(struct table *t, const struct app_day *d)
{
    AUTO_BUF struct buf rules = {0};
    char day[CLK_RFC3339_SIZE];
    const struct figures *f = d->read ? d->quality.figures : NULL;
    int64_t nulls = 0;
    for (size_t i = 0; f && i < figures_n_columns(f); i++)
        nulls += figures_nulls(f, i);
    if (f)
        figures_rules(f, &rules);
    day_text(d->day, day);
    table_add(t,
              (char *[]){xstrdup(d->tenant), xstrdup(d->app), xstrdup(day), count_cell(d->messages), count_cell(d->bytes),
                         count_cell(d->rows), count_cell(d->dead), xasprintf("%.1f", d->messages ? d->ms / (double)d->messages : 0),
                         f ? count_cell((int64_t)figures_n_columns(f)) : NULL, f ? count_cell(nulls) : NULL,
                         rules.n ? xstrdup(rules.p) : NULL});
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(struct app_day *const *)a)->key, (*(struct app_day *const *)b)->key);
}

static void gather(struct gathering *g, const struct home *h, sqlite3 *db, const char *tenant)
{
    sqlite3_stmt *s = NULL;
    sqlite3_prepare_v2(db, "SELECT id FROM tenants WHERE (?1 IS NULL OR id=?1) AND " NOT_MOVED, -1, &s, NULL);
    if (tenant)
        sqlite3_bind_text(s, 1, tenant, -1, SQLITE_STATIC);
    while (s && sqlite3_step(s) == SQLITE_ROW) {
        g->tenant = (const char *)sqlite3_column_text(s, 0);
        int r = stream_log_read(h->dirfd, g->tenant, add_interval, g);
        if (r < 0)
            fprintf(stderr, "mysimbdp stats: cannot read the journal of streams in logs/tenants/%s: %s\n", g->tenant, strerror(-r));
        add_qualities(g, db);
    }
    sqlite3_finalize(s);
}

void stats_streams(struct cli *c, const struct home *h, sqlite3 *db, const char *tenant, int64_t since_ms)
{
    struct gathering g = {.since_ms = since_ms};
    struct table *t = c->json ? NULL : table_new(cols, sizeof cols / sizeof *cols);
    size_t n = 0, at = 0;
    if (db)
        gather(&g, h, db, tenant);
    AUTO_FREE struct app_day **v = xcalloc(g.days.n + 1, sizeof(struct app_day *));
    for (struct app_day *d; (d = map_next(&g.days, &at));)
        v[n++] = d;
    qsort(v, n, sizeof *v, by_key);
    for (size_t i = 0; i < n; i++) {
        if (t)
            add_row(t, v[i]);
        else
            print_json(v[i]);
        free_day(v[i]);
    }
    if (t)
        table_print(t);
    table_free(t);
    map_fini(&g.days);
}
