/* mysimbdp stats: figures from the ledger and the streams' journals, a line for each tenant, then one for the platform (tenant_id
 * null). */
#include "cli.h"
#include "ledger.h"
#include "listing.h"
#include "stats_streams.h"
#include "table.h"

#include "base/clk.h"
#include "base/json.h"
#include "base/mem.h"
#include "host/stream_log.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct figures {
    char *tenant; /* NULL: the platform */
    int64_t files, ingested, rejected, duplicate, quarantined, bytes, file_bytes, rows, rows_rejected, rows_repaired;
    int64_t messages, messages_refused, messages_dead, messages_done;
    double run_s, cpu_s, instance_s, ingestion_s, message_ms; /* message_ms: the sum over all messages that are done */
    double *seconds;                                          /* seconds of each ingestion, sorted */
    size_t n_seconds;
    int64_t n_timed; /* how many ingestions ingestion_s is the sum of, purged tenants' included */
};

static const char counts_sql[] =
    "SELECT t.id, t.purging=2, count(f.file_id), sum(f.state='ingested'), sum(f.state='rejected'), sum(f.state='duplicate'), "
    "sum(f.state='quarantined'), sum(CASE WHEN f.state='ingested' THEN f.size END), "
    "sum(CASE WHEN f.state='ingested' THEN max(f.rows_loaded,0) END), "
    "sum(CASE WHEN f.state='ingested' THEN max(f.rows_rejected,0) END), "
    "sum(CASE WHEN f.state='ingested' THEN max(f.rows_repaired,0) END) FROM tenants t LEFT JOIN files f ON f.tenant=t.id "
    "AND f.received_at>=?2 WHERE (?1 IS NULL OR t.id=?1) GROUP BY t.id ORDER BY t.id";
/* Rows of a group are counted for its run. */
static const char runs_sql[] = "SELECT sum(wall_s), sum(cpu_s), sum(CASE WHEN outcome='ok' THEN max(rows_loaded,0) END), "
                               "sum(CASE WHEN outcome='ok' THEN max(rows_rejected,0) END), "
                               "sum(CASE WHEN outcome='ok' THEN max(rows_repaired,0) END) FROM runs WHERE tenant=?1 AND "
                               "started_at>=?2 AND state='ended'";
/* Runs of stream apps; those that still run count until now. */
static const char instances_sql[] = "SELECT sum(max(0, coalesce(ended_at, ?3) - max(started_at, ?2))) / 1000.0, sum(cpu_s) FROM "
                                    "streams.instances WHERE tenant=?1 AND coalesce(ended_at, ?3)>=?2";
static const char seconds_sql[] = "SELECT (ended_at-started_at)/1000.0 FROM files WHERE tenant=?1 AND received_at>=?2 AND "
                                  "state='ingested' AND started_at>0 ORDER BY 1";

static double percentile(const struct figures *f, double p)
{
    if (!f->n_seconds)
        return NAN;
    /* nearest rank */
    size_t rank = (size_t)ceil(p * (double)f->n_seconds);
    return f->seconds[rank ? rank - 1 : 0];
}

static void fill(sqlite3 *db, struct figures *f, int64_t since_ms)
{
    sqlite3_stmt *s = NULL;
    sqlite3_prepare_v2(db, runs_sql, -1, &s, NULL);
    sqlite3_bind_text(s, 1, f->tenant, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, since_ms);
    if (sqlite3_step(s) == SQLITE_ROW) {
        f->run_s = sqlite3_column_double(s, 0);
        f->cpu_s = sqlite3_column_double(s, 1);
        f->rows += sqlite3_column_int64(s, 2);
        f->rows_rejected += sqlite3_column_int64(s, 3);
        f->rows_repaired += sqlite3_column_int64(s, 4);
    }
    sqlite3_finalize(s);
    sqlite3_prepare_v2(db, instances_sql, -1, &s, NULL);
    sqlite3_bind_text(s, 1, f->tenant, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, since_ms);
    sqlite3_bind_int64(s, 3, clk_wall_ms());
    if (sqlite3_step(s) == SQLITE_ROW) {
        f->instance_s = sqlite3_column_double(s, 0);
        f->cpu_s += sqlite3_column_double(s, 1);
    }
    sqlite3_finalize(s);
    sqlite3_prepare_v2(db, seconds_sql, -1, &s, NULL);
    sqlite3_bind_text(s, 1, f->tenant, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, since_ms);
    while (sqlite3_step(s) == SQLITE_ROW) {
        f->seconds = xgrow(f->seconds, f->n_seconds, sizeof *f->seconds);
        f->seconds[f->n_seconds] = sqlite3_column_double(s, 0);
        f->ingestion_s += f->seconds[f->n_seconds++];
        f->n_timed++;
    }
    sqlite3_finalize(s);
}

struct since {
    struct figures *f;
    int64_t ms;
};

static void add_interval(void *arg, const struct stream_interval *v, int sign)
{
    const struct since *since = arg;
    struct figures *f = since->f;
    if (v->at_ms < since->ms)
        return;
    if (v->of_app) {
        f->messages_done += sign * v->messages;
        f->message_ms += sign * v->ms;
        f->bytes += sign * v->bytes;
        f->rows += sign * v->rows;
        f->messages_dead += sign * v->dead;
    } else {
        f->messages += sign * v->messages;
        f->messages_refused += sign * v->refused;
    }
}

static void fill_streams(const struct home *h, struct figures *f, int64_t since_ms)
{
    int r = stream_log_read(h->dirfd, f->tenant, add_interval, &(struct since){f, since_ms});
    if (r < 0)
        fprintf(stderr, "mysimbdp stats: cannot read logs/tenants/%s/stream.jsonl: %s\n", f->tenant, strerror(-r));
}

/* Adds what is left of a purged tenant (programs/batchmgr/bill.h), from that day on. */
static void fill_bills(sqlite3 *db, const char *table, struct figures *f, int64_t since_ms)
{
    AUTO_FREE char *sql = xasprintf("SELECT name, sum(value) FROM %s WHERE tenant=?1 AND day>=?2 GROUP BY name", table);
    const struct {
        const char *name;
        int64_t *n;
        double *x;
    } fields[] = {
        {"files", &f->files, NULL},
        {"ingested", &f->ingested, NULL},
        {"rejected", &f->rejected, NULL},
        {"duplicate", &f->duplicate, NULL},
        {"quarantined", &f->quarantined, NULL},
        {"bytes", &f->bytes, NULL},
        {"file_bytes", &f->file_bytes, NULL},
        {"rows", &f->rows, NULL},
        {"rows_rejected", &f->rows_rejected, NULL},
        {"timed", &f->n_timed, NULL},
        {"ingestion_s", NULL, &f->ingestion_s},
        {"run_s", NULL, &f->run_s},
        {"cpu_s", NULL, &f->cpu_s},
        {"instance_s", NULL, &f->instance_s},
        {"messages", &f->messages, NULL},
        {"messages_refused", &f->messages_refused, NULL},
        {"messages_dead", &f->messages_dead, NULL},
        {"messages_done", &f->messages_done, NULL},
        {"message_ms", NULL, &f->message_ms},
    };
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        return; /* a ledger of an earlier version has none */
    sqlite3_bind_text(s, 1, f->tenant, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, clk_day(since_ms));
    while (sqlite3_step(s) == SQLITE_ROW)
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            if (strcmp(fields[i].name, (const char *)sqlite3_column_text(s, 0)) != 0)
                continue;
            else if (fields[i].n)
                *fields[i].n += sqlite3_column_int64(s, 1);
            else
                *fields[i].x += sqlite3_column_double(s, 1);
    sqlite3_finalize(s);
}

static bool has_any(const struct figures *f)
{
    return f->files || f->messages || f->messages_refused || f->messages_done || f->run_s > 0 || f->instance_s > 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void add_to(struct figures *sum, const struct figures *f)
{
    sum->files += f->files;
    sum->ingested += f->ingested;
    sum->rejected += f->rejected;
    sum->duplicate += f->duplicate;
    sum->quarantined += f->quarantined;
    sum->bytes += f->bytes;
    sum->file_bytes += f->file_bytes;
    sum->rows += f->rows;
    sum->rows_rejected += f->rows_rejected;
    sum->rows_repaired += f->rows_repaired;
    sum->messages += f->messages;
    sum->messages_refused += f->messages_refused;
    sum->messages_dead += f->messages_dead;
    sum->messages_done += f->messages_done;
    sum->message_ms += f->message_ms;
    sum->run_s += f->run_s;
    sum->cpu_s += f->cpu_s;
    sum->instance_s += f->instance_s;
    sum->ingestion_s += f->ingestion_s;
    sum->n_timed += f->n_timed;
    sum->seconds = xrealloc(sum->seconds, (sum->n_seconds + f->n_seconds) * sizeof *sum->seconds);
    if (f->n_seconds)
        memcpy(sum->seconds + sum->n_seconds, f->seconds, f->n_seconds * sizeof *f->seconds);
    sum->n_seconds += f->n_seconds;
}

static void print_json(const struct figures *f)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_str(&b, "tenant_id", f->tenant);
    json_i64(&b, "files", f->files);
    json_i64(&b, "ingested", f->ingested);
    json_i64(&b, "rejected", f->rejected);
    json_i64(&b, "duplicate", f->duplicate);
    json_i64(&b, "quarantined", f->quarantined);
    json_i64(&b, "bytes", f->bytes);
    json_i64(&b, "rows", f->rows);
    json_i64(&b, "rows_rejected", f->rows_rejected);
    json_i64(&b, "rows_repaired", f->rows_repaired);
    json_f64(&b, "avg_ingestion_s", f->n_timed ? f->ingestion_s / (double)f->n_timed : NAN);
    json_f64(&b, "p50_s", percentile(f, 0.5));
    json_f64(&b, "p95_s", percentile(f, 0.95));
    json_f64(&b, "p99_s", percentile(f, 0.99));
    json_f64(&b, "bytes_per_s", f->ingestion_s > 0 ? (double)f->file_bytes / f->ingestion_s : NAN);
    json_i64(&b, "messages", f->messages);
    json_i64(&b, "messages_refused", f->messages_refused);
    json_i64(&b, "messages_dead", f->messages_dead);
    json_f64(&b, "avg_message_ms", f->messages_done ? f->message_ms / (double)f->messages_done : NAN);
    json_f64(&b, "run_s", f->run_s);
    json_f64(&b, "cpu_s", f->cpu_s);
    json_f64(&b, "instance_s", f->instance_s);
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

static void add_row(struct table *t, const struct figures *f)
{
    bool some = f->n_seconds > 0;
    table_add(t, (char *[]){xstrdup(f->tenant ? f->tenant : "(platform)"), count_cell(f->files), count_cell(f->ingested),
                            count_cell(f->rejected), count_cell(f->duplicate), count_cell(f->quarantined), count_cell(f->bytes),
                            count_cell(f->rows), count_cell(f->rows_rejected), count_cell(f->rows_repaired),
                            xasprintf("%.3f", f->n_timed ? f->ingestion_s / (double)f->n_timed : 0),
                            xasprintf("%.3f", some ? percentile(f, 0.5) : 0), xasprintf("%.3f", some ? percentile(f, 0.99) : 0),
                            xasprintf("%.3f", f->ingestion_s > 0 ? (double)f->file_bytes / f->ingestion_s / 1e6 : 0),
                            count_cell(f->messages),
                            xasprintf("%.1f", f->messages_done ? f->message_ms / (double)f->messages_done : 0),
                            xasprintf("%.2f", f->run_s), xasprintf("%.1f", f->instance_s), xasprintf("%.2f", f->cpu_s)});
}

static void print(struct table *t, const struct figures *f)
{
    if (t)
        add_row(t, f);
    else
        print_json(f);
}

/* Prints a line for each tenant, and one for all. */
static void print_tenants(struct cli *c, const struct home *h, sqlite3 *db, const char *tenant, int64_t since_ms)
{
    struct figures sum = {0};
    struct table *t = c->json ? NULL : table_new(cols, sizeof cols / sizeof *cols);
    sqlite3_stmt *s = NULL;
    if (db)
        sqlite3_prepare_v2(db, counts_sql, -1, &s, NULL);
    if (s && tenant)
        sqlite3_bind_text(s, 1, tenant, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, since_ms);
    while (s && sqlite3_step(s) == SQLITE_ROW) {
        struct figures f = {.tenant = xstrdup((const char *)sqlite3_column_text(s, 0))};
        int64_t *fields[] = {&f.files, &f.ingested, &f.rejected,      &f.duplicate,    &f.quarantined,
                             &f.bytes, &f.rows,     &f.rows_rejected, &f.rows_repaired};
        for (int i = 0; i < 9; i++)
            *fields[i] = sqlite3_column_int64(s, i + 2);
        f.file_bytes = f.bytes;
        fill(db, &f, since_ms);
        fill_streams(h, &f, since_ms);
        fill_bills(db, "main.bills", &f, since_ms);
        fill_bills(db, "streams.bills", &f, since_ms);
        if (!sqlite3_column_int(s, 1) || has_any(&f))
            print(t, &f);
        add_to(&sum, &f);
        free(f.tenant);
        free(f.seconds);
    }
    if (!tenant) {
        if (sum.n_seconds)
            qsort(sum.seconds, sum.n_seconds, sizeof *sum.seconds, by_value);
        print(t, &sum);
    }
    if (t)
        table_print(t);
    table_free(t);
    free(sum.seconds);
    sqlite3_finalize(s);
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
        print_tenants(c, &h, db, tenant, since_ms);
    sqlite3_close(db);
    home_close(&h);
    return known && (db || none) ? CLI_DONE : CLI_FAILED;
}
