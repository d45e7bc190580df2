#include "tenant_sums.h"
#include "runs_use.h"

#include "base/mem.h"
#include "query/stream_days.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { HOUR_MS = 3600000, DAY_MS = 24 * HOUR_MS };

/* How much of the window lies within the run is how much of its CPU time counts. */
#define PART_OF_CPU "sum(cpu_s * (ended_at - max(started_at, ?2)) / max(1, ended_at - started_at))"
static const char runs_sql[] =
    "SELECT " PART_OF_CPU " FROM runs WHERE tenant=?1 AND state='ended' AND pruned=0 AND ended_at>=?2 AND ended_at>=started_at";
static const char instances_sql[] = "SELECT " PART_OF_CPU " FROM streams.instances WHERE tenant=?1 AND state='ended' AND pruned=0 "
                                    "AND ended_at>=?2 AND ended_at>=started_at";
/* By ids, which sort by time, since that index is there: files_failed. ?2: of the day, ?3: of the hour. */
static const char refused_sql[] =
    "SELECT sum(state IN('rejected','quarantined')), sum(state IN('rejected','quarantined') AND file_id>=?3) FROM files WHERE "
    "state IN('rejected','duplicate','vanished','quarantined') AND tenant=?1 AND file_id>=?2";

void tenant_sums_fini(struct tenant_sums *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->v[i].tenant);
        tenant_stats_fini(&s->v[i].bill);
    }
    free(s->v);
    *s = (struct tenant_sums){0};
}

static struct stretch this_month(int64_t now_wall_ms)
{
    time_t now = (time_t)(now_wall_ms / 1000);
    struct tm tm;
    gmtime_r(&now, &tm);
    tm = (struct tm){.tm_year = tm.tm_year, .tm_mon = tm.tm_mon, .tm_mday = 1};
    return (struct stretch){(int64_t)timegm(&tm) * 1000, now_wall_ms + DAY_MS};
}

/* The columns of the row that it gives, as numbers. */
static int read_row(sqlite3 *db, const char *sql, const char *tenant, const char *const texts[2], int64_t since_ms, double *v,
                    int n)
{
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    sqlite3_bind_text(s, 1, tenant, -1, SQLITE_STATIC);
    if (texts) {
        sqlite3_bind_text(s, 2, texts[0], -1, SQLITE_STATIC);
        sqlite3_bind_text(s, 3, texts[1], -1, SQLITE_STATIC);
    } else {
        sqlite3_bind_int64(s, 2, since_ms);
    }
    if (r == SQLITE_OK)
        r = sqlite3_step(s);
    for (int i = 0; r == SQLITE_ROW && i < n; i++)
        v[i] = sqlite3_column_double(s, i);
    sqlite3_finalize(s);
    return r == SQLITE_ROW ? 0 : -EIO;
}

static int read_lately(sqlite3 *db, int64_t now_wall_ms, struct tenant_sum *t)
{
    char day[ID_SIZE], hour[ID_SIZE];
    double runs = 0, instances = 0, refused[2] = {0};
    home_first_id(now_wall_ms - DAY_MS, day);
    home_first_id(now_wall_ms - HOUR_MS, hour);
    const char *const ids[2] = {day, hour};
    int r = read_row(db, runs_sql, t->tenant, NULL, now_wall_ms - RUNS_USE_WINDOW_MS, &runs, 1);
    if (r == 0)
        r = read_row(db, instances_sql, t->tenant, NULL, now_wall_ms - RUNS_USE_WINDOW_MS, &instances, 1);
    if (r == 0)
        r = read_row(db, refused_sql, t->tenant, ids, 0, refused, 2);
    t->ended_cpu_s = runs + instances;
    t->refused_day = (int64_t)refused[0];
    t->refused_hour = (int64_t)refused[1];
    return r;
}

static int read_names(sqlite3 *db, struct tenant_sums *ret)
{
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(db, "SELECT id FROM tenants WHERE purging=0", -1, &s, NULL);
    while (r == SQLITE_OK && (r = sqlite3_step(s)) == SQLITE_ROW) {
        const char *id = (const char *)sqlite3_column_text(s, 0);
        ret->v = xgrow(ret->v, ret->n, sizeof *ret->v);
        ret->v[ret->n++] = (struct tenant_sum){.tenant = xstrdup(id ? id : "")};
        r = SQLITE_OK;
    }
    sqlite3_finalize(s);
    return r == SQLITE_DONE ? 0 : -EIO;
}

int tenant_sums_read(const struct home *h, sqlite3 *db, struct stream_days *days, int64_t now_wall_ms, bool (*go_on)(void *arg),
                     void *arg, struct tenant_sums *ret, struct err *e)
{
    const struct stretch month = this_month(now_wall_ms);
    *ret = (struct tenant_sums){.at_wall_ms = now_wall_ms};
    int r = read_names(db, ret);
    for (size_t i = 0; r == 0 && i < ret->n; i++) {
        r = read_lately(db, now_wall_ms, &ret->v[i]);
        if (r == 0 && !go_on(arg))
            return err_set(e, -ETIMEDOUT, "it is to end");
        if (r == 0 && (r = tenant_stats_read(h, db, ret->v[i].tenant, &month, days, false, go_on, arg, &ret->v[i].bill, e)) < 0)
            return r;
    }
    return r < 0 ? err_set(e, r, "cannot read the ledger: %s", sqlite3_errmsg(db)) : 0;
}
