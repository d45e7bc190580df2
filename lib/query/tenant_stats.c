#include "tenant_stats.h"
#include "stream_days.h"

#include "base/clk.h"
#include "base/mem.h"
#include "db/db.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char files_sql[] =
    "SELECT count(*), sum(state='ingested'), sum(state='rejected'), sum(state='duplicate'), sum(state='quarantined'), "
    "sum(CASE WHEN state='ingested' THEN size END), sum(CASE WHEN state='ingested' THEN max(rows_loaded,0) END), "
    "sum(CASE WHEN state='ingested' THEN max(rows_rejected,0) END), sum(CASE WHEN state='ingested' THEN max(rows_repaired,0) END), "
    "sum(state='ingested' AND started_at>0), sum(CASE WHEN state='ingested' AND started_at>0 THEN ended_at-started_at END)/1000.0 "
    "FROM files WHERE tenant=?1 AND received_at>=?2 AND received_at<?3";
/* Rows of a group are counted for its run. */
static const char runs_sql[] = "SELECT sum(wall_s), sum(cpu_s), sum(CASE WHEN outcome='ok' THEN max(rows_loaded,0) END), "
                               "sum(CASE WHEN outcome='ok' THEN max(rows_rejected,0) END), "
                               "sum(CASE WHEN outcome='ok' THEN max(rows_repaired,0) END) FROM runs WHERE tenant=?1 AND "
                               "started_at>=?2 AND started_at<?3 AND state='ended'";
/* Runs of stream apps, as long as they ran within the stretch; those that still run count until now. Their CPU time is known at
 * their end, and counts there. */
static const char instances_sql[] =
    "SELECT sum(max(0, min(coalesce(ended_at, ?4), ?3) - max(started_at, ?2))) / 1000.0, sum(CASE WHEN coalesce(ended_at, ?4)<?3 "
    "THEN cpu_s END) FROM streams.instances WHERE tenant=?1 AND started_at<?3 AND coalesce(ended_at, ?4)>=?2";
static const char seconds_sql[] = "SELECT (ended_at-started_at)/1000.0 FROM files WHERE tenant=?1 AND received_at>=?2 AND "
                                  "received_at<?3 AND state='ingested' AND started_at>0 ORDER BY 1";

static int failed(sqlite3 *db, struct err *e)
{
    if (sqlite3_errcode(db) == SQLITE_INTERRUPT)
        return err_set(e, -ETIMEDOUT, "reading the ledger takes too long");
    return err_set(e, -EIO, "cannot read the ledger: %s", db_why(db));
}

/* NULL when it cannot be prepared. */
static sqlite3_stmt *query(sqlite3 *db, const char *sql, const char *tenant, const struct stretch *when)
{
    sqlite3_stmt *s = NULL;
    sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    sqlite3_bind_text(s, 1, tenant, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, when->since_ms);
    sqlite3_bind_int64(s, 3, when->until_ms);
    return s;
}

static int add_files(sqlite3 *db, const char *tenant, const struct stretch *when, struct tenant_stats *f, struct err *e)
{
    int64_t *const fields[] = {&f->files, &f->ingested, &f->rejected,      &f->duplicate,     &f->quarantined,
                               &f->bytes, &f->rows,     &f->rows_rejected, &f->rows_repaired, &f->n_timed};
    enum { N = sizeof fields / sizeof *fields };
    sqlite3_stmt *s = query(db, files_sql, tenant, when);
    int r = sqlite3_step(s) == SQLITE_ROW ? 0 : failed(db, e);
    for (int i = 0; r == 0 && i < N; i++)
        *fields[i] = sqlite3_column_int64(s, i);
    if (r == 0)
        f->ingestion_s = sqlite3_column_double(s, N);
    f->file_bytes = f->bytes;
    sqlite3_finalize(s);
    return r;
}

static int add_runs(sqlite3 *db, const char *tenant, const struct stretch *when, struct tenant_stats *f, struct err *e)
{
    sqlite3_stmt *s = query(db, runs_sql, tenant, when);
    int r = sqlite3_step(s) == SQLITE_ROW ? 0 : failed(db, e);
    if (r == 0) {
        f->run_s = sqlite3_column_double(s, 0);
        f->cpu_s = sqlite3_column_double(s, 1);
        f->rows += sqlite3_column_int64(s, 2);
        f->rows_rejected += sqlite3_column_int64(s, 3);
        f->rows_repaired += sqlite3_column_int64(s, 4);
    }
    sqlite3_finalize(s);
    if (r < 0)
        return r;
    s = query(db, instances_sql, tenant, when);
    sqlite3_bind_int64(s, 4, clk_wall_ms());
    r = sqlite3_step(s) == SQLITE_ROW ? 0 : failed(db, e);
    if (r == 0) {
        f->instance_s = sqlite3_column_double(s, 0);
        f->cpu_s += sqlite3_column_double(s, 1);
    }
    sqlite3_finalize(s);
    return r;
}

static int add_seconds(sqlite3 *db, const char *tenant, const struct stretch *when, struct tenant_stats *f, struct err *e)
{
    sqlite3_stmt *s = query(db, seconds_sql, tenant, when);
    int r;
    while ((r = sqlite3_step(s)) == SQLITE_ROW) {
        f->seconds = xgrow(f->seconds, f->n_seconds, sizeof *f->seconds);
        f->seconds[f->n_seconds++] = sqlite3_column_double(s, 0);
    }
    r = r == SQLITE_DONE ? 0 : failed(db, e);
    sqlite3_finalize(s);
    return r;
}

/* Adds what is left of a purged tenant. A ledger of an earlier version has no such table. */
static int add_bills(sqlite3 *db, const char *schema, const char *tenant, const struct stretch *when, struct tenant_stats *f,
                     struct err *e)
{
    AUTO_FREE char *sql =
        xasprintf("SELECT name, sum(value) FROM %s.bills WHERE tenant=?1 AND day>=?2 AND day<?3 GROUP BY name", schema);
    const struct stretch days = {clk_day(when->since_ms), clk_day(when->until_ms)};
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
    if (sqlite3_table_column_metadata(db, schema, "bills", "value", NULL, NULL, NULL, NULL, NULL) != SQLITE_OK)
        return 0;
    sqlite3_stmt *s = query(db, sql, tenant, &days);
    int r;
    while ((r = sqlite3_step(s)) == SQLITE_ROW)
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            if (strcmp(fields[i].name, (const char *)sqlite3_column_text(s, 0)) != 0)
                continue;
            else if (fields[i].n)
                *fields[i].n += sqlite3_column_int64(s, 1);
            else
                *fields[i].x += sqlite3_column_double(s, 1);
    r = r == SQLITE_DONE ? 0 : failed(db, e);
    sqlite3_finalize(s);
    return r;
}

int tenant_stats_read(const struct home *h, sqlite3 *db, const char *tenant, const struct stretch *when, struct stream_days *days,
                      bool each_second, bool (*go_on)(void *arg), void *arg, struct tenant_stats *ret, struct err *e)
{
    *ret = (struct tenant_stats){0};
    int r = add_files(db, tenant, when, ret, e);
    if (r == 0)
        r = add_runs(db, tenant, when, ret, e);
    if (r == 0 && each_second)
        r = add_seconds(db, tenant, when, ret, e);
    if (r == 0)
        r = stream_days_add(days, h, tenant, when, go_on, arg, ret, e);
    if (r == 0)
        r = add_bills(db, "main", tenant, when, ret, e);
    if (r == 0)
        r = add_bills(db, "streams", tenant, when, ret, e);
    return r;
}

void tenant_stats_fini(struct tenant_stats *s)
{
    free(s->seconds);
    *s = (struct tenant_stats){0};
}

bool tenant_stats_has_any(const struct tenant_stats *s)
{
    return s->files || s->messages || s->messages_refused || s->messages_done || s->run_s > 0 || s->instance_s > 0;
}

void tenant_stats_add(struct tenant_stats *sum, const struct tenant_stats *s)
{
    sum->files += s->files;
    sum->ingested += s->ingested;
    sum->rejected += s->rejected;
    sum->duplicate += s->duplicate;
    sum->quarantined += s->quarantined;
    sum->bytes += s->bytes;
    sum->file_bytes += s->file_bytes;
    sum->rows += s->rows;
    sum->rows_rejected += s->rows_rejected;
    sum->rows_repaired += s->rows_repaired;
    sum->messages += s->messages;
    sum->messages_refused += s->messages_refused;
    sum->messages_dead += s->messages_dead;
    sum->messages_done += s->messages_done;
    sum->message_ms += s->message_ms;
    sum->run_s += s->run_s;
    sum->cpu_s += s->cpu_s;
    sum->instance_s += s->instance_s;
    sum->ingestion_s += s->ingestion_s;
    sum->n_timed += s->n_timed;
    sum->seconds = xrealloc(sum->seconds, (sum->n_seconds + s->n_seconds) * sizeof *sum->seconds);
    if (s->n_seconds)
        memcpy(sum->seconds + sum->n_seconds, s->seconds, s->n_seconds * sizeof *s->seconds);
    sum->n_seconds += s->n_seconds;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

void tenant_stats_sort(struct tenant_stats *s)
{
    if (s->n_seconds)
        qsort(s->seconds, s->n_seconds, sizeof *s->seconds, by_value);
}

double tenant_stats_percentile(const struct tenant_stats *s, double p)
{
    if (!s->n_seconds)
        return NAN;
    /* nearest rank */
    size_t rank = (size_t)ceil(p * (double)s->n_seconds);
    return s->seconds[rank ? rank - 1 : 0];
}

void tenant_stats_json(struct buf *b, const struct tenant_stats *s, bool each_second)
{
    json_i64(b, "files", s->files);
    json_i64(b, "ingested", s->ingested);
    json_i64(b, "rejected", s->rejected);
    json_i64(b, "duplicate", s->duplicate);
    json_i64(b, "quarantined", s->quarantined);
    json_i64(b, "bytes", s->bytes);
    json_i64(b, "rows", s->rows);
    json_i64(b, "rows_rejected", s->rows_rejected);
    json_i64(b, "rows_repaired", s->rows_repaired);
    json_f64(b, "avg_ingestion_s", s->n_timed ? s->ingestion_s / (double)s->n_timed : NAN);
    if (each_second) {
        json_f64(b, "p50_s", tenant_stats_percentile(s, 0.5));
        json_f64(b, "p95_s", tenant_stats_percentile(s, 0.95));
        json_f64(b, "p99_s", tenant_stats_percentile(s, 0.99));
    }
    json_f64(b, "bytes_per_s", s->ingestion_s > 0 ? (double)s->file_bytes / s->ingestion_s : NAN);
    json_i64(b, "messages", s->messages);
    json_i64(b, "messages_refused", s->messages_refused);
    json_i64(b, "messages_dead", s->messages_dead);
    json_f64(b, "avg_message_ms", s->messages_done ? s->message_ms / (double)s->messages_done : NAN);
    json_f64(b, "run_s", s->run_s);
    json_f64(b, "cpu_s", s->cpu_s);
    json_f64(b, "instance_s", s->instance_s);
}
