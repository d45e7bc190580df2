/* mysimbdp stats: figures from the ledger and the streams' journals, a line for each tenant, then one for the platform (tenant_id
 * null). */
#include "cli.h"
#include "ledger.h"
#include "stats_streams.h"
#include "term/table.h"

#include "base/clk.h"
#include "base/mem.h"
#include "db/db.h"
#include "query/tenant_stats.h"

#include <stdio.h>

/* tenant NULL: the platform. */
static void print_json(const char *tenant, const struct tenant_stats *f)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "tenant_id", tenant);
    tenant_stats_json(&b, f, true);
    json_end(&b, '}');
    puts(b.p);
}

static const struct col cols[] = {
    {"tenant", COL_TEXT, 1},     {"files", COL_COUNT, 1},       {"ingested", COL_COUNT, 1}, {"rejected", COL_COUNT, 2},
    {"duplicate", COL_COUNT, 6}, {"quarantined", COL_COUNT, 2}, {"bytes", COL_COUNT, 4},    {"rows", COL_COUNT, 1},
    {"rejects", COL_COUNT, 3},   {"repaired", COL_COUNT, 8},    {"avg_s", COL_NUMBER, 5},   {"p50_s", COL_NUMBER, 8},
    {"p99_s", COL_NUMBER, 7},    {"MB/s", COL_NUMBER, 5},       {"messages", COL_COUNT, 4}, {"avg_ms", COL_NUMBER, 7},
    {"run_s", COL_NUMBER, 8},    {"instance_s", COL_NUMBER, 9}, {"cpu_s", COL_NUMBER, 8},
};

static char *count_cell(int64_t n)
{
    return xasprintf("%lld", (long long)n);
}

static void add_row(struct table *t, const char *tenant, const struct tenant_stats *f)
{
    bool some = f->n_seconds > 0;
    table_add(t, (char *[]){xstrdup(tenant ? tenant : "(platform)"), count_cell(f->files), count_cell(f->ingested),
                            count_cell(f->rejected), count_cell(f->duplicate), count_cell(f->quarantined), count_cell(f->bytes),
                            count_cell(f->rows), count_cell(f->rows_rejected), count_cell(f->rows_repaired),
                            xasprintf("%.3f", f->n_timed ? f->ingestion_s / (double)f->n_timed : 0),
                            xasprintf("%.3f", some ? tenant_stats_percentile(f, 0.5) : 0),
                            xasprintf("%.3f", some ? tenant_stats_percentile(f, 0.99) : 0),
                            xasprintf("%.3f", f->ingestion_s > 0 ? (double)f->file_bytes / f->ingestion_s / 1e6 : 0),
                            count_cell(f->messages),
                            xasprintf("%.1f", f->messages_done ? f->message_ms / (double)f->messages_done : 0),
                            xasprintf("%.2f", f->run_s), xasprintf("%.1f", f->instance_s), xasprintf("%.2f", f->cpu_s)});
}

static void print(struct table *t, const char *tenant, const struct tenant_stats *f)
{
    if (t)
        add_row(t, tenant, f);
    else
        print_json(tenant, f);
}

/* Adds a line for the tenant. Of one that was removed there is none when it did nothing. */
static int print_tenant(struct table *t, const struct home *h, sqlite3 *db, sqlite3_stmt *row, int64_t since_ms,
                        struct tenant_stats *sum, struct err *e)
{
    AUTO_FREE char *tenant = xstrdup((const char *)sqlite3_column_text(row, 0));
    const struct stretch when = {since_ms, INT64_MAX};
    struct tenant_stats f;
    int r = tenant_stats_read(h, db, tenant, &when, NULL, true, NULL, NULL, &f, e);
    if (r == 0 && (!sqlite3_column_int(row, 1) || tenant_stats_has_any(&f)))
        print(t, tenant, &f);
    if (r == 0)
        tenant_stats_add(sum, &f);
    tenant_stats_fini(&f);
    return r;
}

/* Prints a line for each tenant, and one for all. */
static int print_tenants(struct cli *c, const struct home *h, sqlite3 *db, const char *tenant, int64_t since_ms)
{
    struct tenant_stats sum = {0};
    struct table *t = c->json ? NULL : table_new(cols, sizeof cols / sizeof *cols);
    sqlite3_stmt *s = NULL;
    struct err e = {0};
    int r = SQLITE_DONE;
    if (db && sqlite3_prepare_v2(db, "SELECT id, purging=2 FROM tenants WHERE (?1 IS NULL OR id=?1) AND " NOT_MOVED " ORDER BY id",
                                 -1, &s, NULL) == SQLITE_OK)
        sqlite3_bind_text(s, 1, tenant, -1, SQLITE_STATIC);
    while (db && (r = sqlite3_step(s)) == SQLITE_ROW && print_tenant(t, h, db, s, since_ms, &sum, &e) == 0) {
    }
    if (!e.code && r != SQLITE_DONE)
        err_set(&e, ERR_FORMAT, "cannot read the ledger: %s", db_why(db));
    if (!tenant && !e.code) {
        tenant_stats_sort(&sum);
        print(t, NULL, &sum);
    }
    if (t)
        table_print(t);
    table_free(t);
    tenant_stats_fini(&sum);
    sqlite3_finalize(s);
    return e.code ? cli_fail(c, &e) : CLI_DONE;
}

int verb_stats(struct cli *c)
{
    struct home h;
    bool none, streams = cli_flag(c, "--streams");
    const char *tenant = cli_opt(c, "--tenant"), *since = cli_opt(c, "--since");
    int64_t since_ms = 0;
    int r = cli_args(c, 0, 0);
    if (!r && since && clk_parse_since(since, &since_ms) < 0)
        r = cli_usage(c, "--since %s is no time", since);
    if (r || cli_home(c, &h))
        return r ? r : CLI_FAILED;
    sqlite3 *db = cli_ledger(c, &h, &none);
    bool known = !db || !tenant || cli_is_tenant(c, &h, db, tenant);
    if (streams)
        stats_streams(c, &h, db, tenant, since_ms);
    else
        r = print_tenants(c, &h, db, tenant, since_ms);
    sqlite3_close(db);
    home_close(&h);
    return known && (db || none) ? r : CLI_FAILED;
}
