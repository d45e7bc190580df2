/* What counts today against the limits, as batchmgr counts it (admit.c; ledger_taken_since of ledger_query.c); and the bill of a
 * month. */
#include "parts.h"
#include "tenant_stats.h"

#include "base/clk.h"
#include "base/map.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { DAY_MS = 86400000 };

struct used {
    int64_t files, bytes, unfinished;
};

struct usage {
    struct used all;
    struct map datasets; /* name -> struct used */
};

static struct used *used_of(struct usage *u, const char *dataset)
{
    struct used *v = map_get(&u->datasets, dataset);
    if (!v) {
        v = xcalloc(1, sizeof *v);
        map_put(&u->datasets, dataset, v);
    }
    return v;
}

static void forget_usage(struct usage *u)
{
    size_t i = 0;
    for (void *v; (v = map_next(&u->datasets, &i));)
        free(v);
    map_fini(&u->datasets);
}

/* The statement gives a dataset, its files (or unfinished ones), and their bytes. */
static int count(struct asking *a, const char *sql, int64_t day_ms, bool unfinished, struct usage *u)
{
    AUTO_STATEMENT sqlite3_stmt *s = prepare(a, sql);
    if (!s)
        return ERR_REFUSED;
    bind_i64(s, ":day", day_ms);
    int r;
    while ((r = sqlite3_step(s)) == SQLITE_ROW) {
        const char *dataset = (const char *)sqlite3_column_text(s, 0);
        struct used *both[] = {&u->all, used_of(u, dataset ? dataset : "")};
        for (int i = 0; i < 2; i++) {
            *(unfinished ? &both[i]->unfinished : &both[i]->files) += sqlite3_column_int64(s, 1);
            both[i]->bytes += sqlite3_column_int64(s, 2);
        }
    }
    return r == SQLITE_DONE ? 0 : refuse_for_db(a);
}

static void show_used(struct buf *b, const char *key, int64_t used, int64_t limit)
{
    json_begin(b, key, '{');
    json_i64(b, "used", used);
    json_i64_or_null(b, "limit", limit);
    json_i64_or_null(b, "left", limit < 0 ? -1 : used < limit ? limit - used : 0);
    json_end(b, '}');
}

static void show_level(struct buf *b, const struct used *u, const struct conf_limits *l)
{
    show_used(b, "files_today", u->files, l->max_files_per_day);
    show_used(b, "bytes_today", u->bytes, l->max_bytes_per_day);
    show_used(b, "unfinished_files", u->unfinished, l->max_files_in_staging);
}

static void show_usage(struct asking *a, const struct conf_tenant *t, struct usage *u, int64_t day_ms)
{
    struct buf *b = &a->out->body;
    const struct conf_dataset *d = t->datasets.v;
    char day[CLK_RFC3339_SIZE];
    clk_rfc3339(day_ms, day);
    day[strcspn(day, "T")] = 0;
    json_begin(b, NULL, '{');
    json_str(b, "tenant_id", a->tenant);
    json_str(b, "day", day);
    json_time(b, "until", day_ms + DAY_MS);
    show_level(b, &u->all, &t->limits);
    json_begin(b, "datasets", '[');
    for (size_t i = 0; i < t->datasets.n; i++) {
        if (!in_scope(a, d[i].name))
            continue;
        json_begin(b, NULL, '{');
        json_str(b, "dataset", d[i].name);
        show_level(b, used_of(u, d[i].name), &d[i].limits);
        json_end(b, '}');
    }
    json_end(b, ']');
    json_end(b, '}');
}

int ask_usage(struct asking *a)
{
    static const char taken[] =
        "SELECT dataset, count(*), sum(max(size,0)) FROM files WHERE tenant=:tenant AND received_at>=:day AND "
        "state NOT IN('rejected','vanished') AND size>=0 GROUP BY dataset";
    /* the first condition is the index' */
    static const char unfinished[] =
        "SELECT dataset, count(*), 0 FROM files WHERE (state IN('received','queued','running','waiting') "
        "OR place='work') AND +tenant=:tenant AND +state IN('received','queued','running','waiting') GROUP "
        "BY dataset";
    const struct conf_tenant *t = tenant_of_conf(a);
    struct usage u = {0};
    int64_t day_ms = clk_day(clk_wall_ms()) * DAY_MS;
    int r = t ? count(a, taken, day_ms, false, &u) : ERR_REFUSED;
    if (r == 0)
        r = count(a, unfinished, day_ms, true, &u);
    if (r == 0)
        show_usage(a, t, &u, day_ms);
    forget_usage(&u);
    return r;
}

/* ---- the bill ---- */

static int month_of(const char *text, struct stretch *ret)
{
    int year, month, n = 0;
    char first[32];
    if (strspn(text, "0123456789-") != strlen(text) || sscanf(text, "%4d-%2d%n", &year, &month, &n) != 2 || n != 7 || text[n] ||
        year < 1970 || year > 9998 || month < 1 || month > 12)
        return ERR_FORMAT;
    snprintf(first, sizeof first, "%04d-%02d-01", year, month);
    int r = clk_parse(first, &ret->since_ms);
    snprintf(first, sizeof first, "%04d-%02d-01", month == 12 ? year + 1 : year, month == 12 ? 1 : month + 1);
    return r < 0 ? r : clk_parse(first, &ret->until_ms);
}

int ask_bill(struct asking *a)
{
    enum { MAX_MONTH = 7 };
    struct buf *b = &a->out->body;
    struct stretch when;
    struct tenant_stats s;
    struct err e = {0};
    const char *month;
    int r = param_text(a, "month", MAX_MONTH, &month);
    if (r == 0 && (!month || month_of(month, &when) < 0))
        r = refuse(a, 400, "parameter", "month: is no month like 2026-01");
    if (r < 0)
        return r;
    r = tenant_stats_read(a->home, a->db, a->tenant, &when, a->days, false, has_time, a, &s, &e);
    if (r == 0) {
        json_begin(b, NULL, '{');
        json_str(b, "tenant_id", a->tenant);
        json_str(b, "month", month);
        json_time(b, "since", when.since_ms);
        json_time(b, "until", when.until_ms);
        json_bool(b, "complete", when.until_ms <= clk_wall_ms());
        tenant_stats_json(b, &s, false);
        json_end(b, '}');
    }
    tenant_stats_fini(&s);
    return r < 0 ? refuse_for_error(a, &e) : 0;
}
