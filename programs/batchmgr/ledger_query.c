/* What is read of the ledger. */
#include "ledger_rows.h"

#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "db/db.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A query whose ?1 is `first` (NULL: it has none). The caller finalizes; NULL, when it cannot be prepared, reads as no rows. */
static sqlite3_stmt *query(struct ledger *l, const char *sql, const char *first)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(ledger_reader(l), sql, -1, &s, NULL) != SQLITE_OK)
        log_error("ledger", NULL, NULL, "cannot read the ledger: %s", db_why(ledger_reader(l)));
    else if (first)
        ledger_bind_text(s, 1, first);
    return s;
}

int ledger_each_live_file(struct ledger *l, void (*fn)(void *arg, struct file *f), void *arg, struct err *e)
{
    sqlite3_stmt *s = query(l,
                            "SELECT * FROM files WHERE state IN('received','queued','running','waiting') OR place='work' "
                            "ORDER BY file_id",
                            NULL);
    int r = SQLITE_ERROR;
    while (s && (r = sqlite3_step(s)) == SQLITE_ROW)
        fn(arg, ledger_row_file(s));
    sqlite3_finalize(s);
    return r == SQLITE_DONE ? 0 : err_set(e, -EIO, "cannot read the ledger: %s", db_why(ledger_reader(l)));
}

int ledger_get_file(struct ledger *l, const char *file_id, struct file **ret, struct err *e)
{
    sqlite3_stmt *s = query(l, "SELECT * FROM files WHERE file_id=?1", file_id);
    int r = -ENOENT;
    if (sqlite3_step(s) == SQLITE_ROW) {
        *ret = ledger_row_file(s);
        r = 0;
    }
    sqlite3_finalize(s);
    return r < 0 ? err_set(e, r, "no file %s in the ledger", file_id) : 0;
}

int ledger_get_run(struct ledger *l, const char *run_id, struct run **ret, struct err *e)
{
    sqlite3_stmt *s = query(l, "SELECT * FROM runs WHERE run_id=?1", run_id);
    if (sqlite3_step(s) != SQLITE_ROW) {
        sqlite3_finalize(s);
        return err_set(e, -ENOENT, "no run %s in the ledger", run_id);
    }
    *ret = ledger_row_run(s);
    sqlite3_finalize(s);
    return 0;
}

bool ledger_find_ingested(struct ledger *l, const char *tenant, const char *dataset, const char *hash, char ret_file_id[ID_SIZE],
                          char ret_prefix[33], int64_t *ret_group_n)
{
    sqlite3_stmt *s = query(l,
                            "SELECT file_id, prefix, group_n FROM files WHERE tenant=?1 AND dataset=?2 AND hash=?3 AND "
                            "state='ingested' ORDER BY file_id DESC LIMIT 1",
                            tenant);
    bool found = false;
    ledger_bind_text(s, 2, dataset);
    ledger_bind_text(s, 3, hash);
    if (sqlite3_step(s) == SQLITE_ROW) {
        ledger_column_id(s, 0, ret_file_id, ID_SIZE);
        ledger_column_id(s, 1, ret_prefix, 33);
        *ret_group_n = sqlite3_column_int64(s, 2);
        found = true;
    }
    sqlite3_finalize(s);
    return found;
}

void ledger_taken_since(struct ledger *l, const char *tenant, const char *dataset, int64_t wall_ms, int64_t *ret_files,
                        int64_t *ret_bytes)
{
    sqlite3_stmt *s = query(l,
                            "SELECT count(*), sum(max(size,0)) FROM files WHERE tenant=?1 AND received_at>=?2 AND "
                            "state NOT IN('rejected','vanished') AND size>=0 AND (?3 IS NULL OR dataset=?3)",
                            tenant);
    ledger_bind_text(s, 3, dataset);
    sqlite3_bind_int64(s, 2, wall_ms);
    *ret_files = *ret_bytes = 0;
    if (sqlite3_step(s) == SQLITE_ROW) {
        *ret_files = sqlite3_column_int64(s, 0);
        *ret_bytes = sqlite3_column_int64(s, 1);
    }
    sqlite3_finalize(s);
}

static char **ids(sqlite3_stmt *s)
{
    char **v = xcalloc(1, sizeof *v);
    size_t n = 0;
    while (sqlite3_step(s) == SQLITE_ROW) {
        v = xrealloc(v, (n + 2) * sizeof *v);
        v[n++] = ledger_column(s, 0);
        v[n] = NULL;
    }
    sqlite3_finalize(s);
    return v;
}

char **ledger_purging(struct ledger *l)
{
    return ids(query(l, "SELECT id FROM tenants WHERE purging=1", NULL));
}

#define SOME_FILES    "SELECT file_id FROM files WHERE tenant=?1 LIMIT 500"
#define SOME_HAND_INS "SELECT key FROM hand_ins WHERE tenant=?1 LIMIT 500"
#define SOME_RUNS     "SELECT run_id FROM runs WHERE tenant=?1 LIMIT 500"
/* What stats (programs/cli/stats.c) says of them. */
static const char bill_files_sql[] =
    "WITH some AS (SELECT received_at/86400000 AS day, * FROM files WHERE file_id IN(" SOME_FILES ")),"
    " done AS (SELECT * FROM some WHERE state='ingested'), timed AS (SELECT * FROM done WHERE started_at>0),"
    " v(day, name, value) AS (SELECT day, 'files', 1 FROM some"
    " UNION ALL SELECT day, state, 1 FROM some"
    " UNION ALL SELECT day, 'bytes', size FROM done"
    " UNION ALL SELECT day, 'file_bytes', size FROM done"
    " UNION ALL SELECT day, 'rows', max(rows_loaded, 0) FROM done"
    " UNION ALL SELECT day, 'rows_rejected', max(rows_rejected, 0) FROM done"
    " UNION ALL SELECT day, 'timed', 1 FROM timed"
    " UNION ALL SELECT day, 'ingestion_s', (ended_at-started_at)/1000.0 FROM timed)"
    " INSERT INTO bills SELECT ?1, day, name, sum(value) FROM v WHERE value<>0 GROUP BY day, name"
    " ON CONFLICT DO UPDATE SET value=value+excluded.value";
static const char bill_runs_sql[] = "WITH some AS (SELECT started_at/86400000 AS day, * FROM runs WHERE run_id IN(" SOME_RUNS ")),"
                                    " v(day, name, value) AS (SELECT day, 'run_s', wall_s FROM some"
                                    " UNION ALL SELECT day, 'cpu_s', cpu_s FROM some"
                                    " UNION ALL SELECT day, 'rows', max(rows_loaded, 0) FROM some WHERE outcome='ok'"
                                    " UNION ALL SELECT day, 'rows_rejected', max(rows_rejected, 0) FROM some WHERE outcome='ok')"
                                    " INSERT INTO bills SELECT ?1, day, name, sum(value) FROM v WHERE value<>0 GROUP BY day, name"
                                    " ON CONFLICT DO UPDATE SET value=value+excluded.value";
enum { FIRST_DELETE = 2 };

/* What is deleted is billed in the same transaction. */
static int purge_some(sqlite3 *db, const char *tenant, bool bills, int (*fn)(void *arg, const char *run_id, struct err *e),
                      void *arg, struct err *e)
{
    static const char *const sql[] = {
        bill_files_sql,
        bill_runs_sql,
        "DELETE FROM quality WHERE file_id IN(" SOME_FILES ")",
        "DELETE FROM files WHERE file_id IN(" SOME_FILES ")",
        "DELETE FROM runs WHERE run_id IN(" SOME_RUNS ")",
        "DELETE FROM hand_ins WHERE tenant=?1 AND key IN(" SOME_HAND_INS ")",
    };
    sqlite3_stmt *s = NULL;
    int n = 0, gone = 0, r = sqlite3_prepare_v2(db, SOME_RUNS, -1, &s, NULL);
    ledger_bind_text(s, 1, tenant);
    while (r == SQLITE_OK && gone == 0 && sqlite3_step(s) == SQLITE_ROW)
        gone = fn(arg, (const char *)sqlite3_column_text(s, 0), e);
    sqlite3_finalize(s);
    if (gone < 0)
        return gone;
    if (r == SQLITE_OK)
        r = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (size_t i = bills ? 0 : FIRST_DELETE; r == SQLITE_OK && i < sizeof sql / sizeof *sql; i++) {
        r = sqlite3_prepare_v2(db, sql[i], -1, &s, NULL);
        ledger_bind_text(s, 1, tenant);
        if (r == SQLITE_OK && (r = sqlite3_step(s)) == SQLITE_DONE)
            r = SQLITE_OK;
        sqlite3_finalize(s);
        n += r == SQLITE_OK && i >= FIRST_DELETE ? sqlite3_changes(db) : 0;
    }
    if (r == SQLITE_OK)
        r = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    return r == SQLITE_OK ? n : err_set(e, -EIO, "cannot delete the tenant's rows of the ledger: %s", db_why(db));
}

int ledger_purge(const struct home *h, const char *tenant, bool bills, int (*fn)(void *arg, const char *run_id, struct err *e),
                 void *arg, struct err *e)
{
    AUTO_FREE char *path = home_path(h, "state/ledger.db");
    sqlite3 *db = NULL;
    int r = ledger_connect(path, &db, e);
    while (r == 0) {
        int n = purge_some(db, tenant, bills, fn, arg, e);
        if (n < 0)
            r = n;
        if (n <= 0)
            break;
    }
    sqlite3_close(db);
    return r;
}

/* ?1 tenant, ?2 a time, ?3 how many at most. */
static char **ids_before(struct ledger *l, const char *sql, const char *tenant, int64_t wall_ms, int limit)
{
    sqlite3_stmt *s = query(l, sql, tenant);
    sqlite3_bind_int64(s, 2, wall_ms);
    sqlite3_bind_int(s, 3, limit);
    return ids(s);
}

char **ledger_filed_before(struct ledger *l, const char *tenant, int64_t wall_ms, int limit)
{
    static const char sql[] = "SELECT file_id FROM files WHERE tenant=?1 AND ended_at>0 AND ended_at<?2 AND "
                              "place IN('done','quarantine') LIMIT ?3";
    return ids_before(l, sql, tenant, wall_ms, limit);
}

char **ledger_left_in_work(struct ledger *l, const char *tenant, int64_t wall_ms, int limit)
{
    /* the first condition is the index' */
    static const char sql[] = "SELECT file_id FROM files WHERE (state IN('received','queued','running','waiting') OR place='work') "
                              "AND tenant=?1 AND place='work' AND ended_at>0 AND ended_at<?2 AND "
                              "state NOT IN('received','queued','running','waiting') LIMIT ?3";
    return ids_before(l, sql, tenant, wall_ms, limit);
}

char **ledger_runs_before(struct ledger *l, const char *tenant, int64_t wall_ms, int limit)
{
    static const char sql[] = "SELECT run_id FROM runs WHERE tenant=?1 AND ended_at<?2 AND state='ended' AND pruned=0 AND run_id "
                              "NOT IN(SELECT output_run FROM files WHERE (state IN('received','queued','running','waiting') OR "
                              "place='work') AND output_run<>'') LIMIT ?3";
    return ids_before(l, sql, tenant, wall_ms, limit);
}

char **ledger_stored_before(struct ledger *l, const char *tenant, const char *dataset, int64_t wall_ms, int limit,
                            char ***ret_prefixes)
{
    char **v[2] = {xcalloc(1, sizeof **v), xcalloc(1, sizeof **v)};
    size_t n = 0;
    sqlite3_stmt *s =
        query(l,
              "SELECT file_id, prefix FROM files f WHERE tenant=?1 AND ended_at<?2 AND state='ingested' AND expired=0 AND "
              "prefix<>'' AND dataset=?4 AND NOT EXISTS(SELECT 1 FROM files g WHERE g.tenant=f.tenant AND "
              "g.dataset=f.dataset AND g.hash=f.hash AND g.state='ingested' AND g.prefix=f.prefix AND g.ended_at>=?2) LIMIT ?3",
              tenant);
    sqlite3_bind_int64(s, 2, wall_ms);
    sqlite3_bind_int(s, 3, limit);
    ledger_bind_text(s, 4, dataset);
    for (; sqlite3_step(s) == SQLITE_ROW; n++)
        for (int k = 0; k < 2; k++) {
            v[k] = xrealloc(v[k], (n + 2) * sizeof **v);
            v[k][n] = ledger_column(s, k);
            v[k][n + 1] = NULL;
        }
    sqlite3_finalize(s);
    *ret_prefixes = v[1];
    return v[0];
}

char **ledger_retryable(struct ledger *l, const char *tenant, int limit)
{
    /* the first condition is the index' */
    sqlite3_stmt *s =
        query(l,
              "SELECT file_id FROM files WHERE state IN('rejected','duplicate','vanished','quarantined') AND tenant=?1 AND "
              "state IN('quarantined','rejected') AND place IN('done','quarantine','work') ORDER BY file_id LIMIT ?2",
              tenant);
    sqlite3_bind_int(s, 2, limit);
    return ids(s);
}

bool ledger_find_hand_in(struct ledger *l, const struct ledger_hand_in *like, int64_t wall_ms, char ret_file_id[ID_SIZE],
                         bool *ret_same)
{
    sqlite3_stmt *s = query(
        l, "SELECT file_id, dataset=?3 AND name=?4 AND size=?5 FROM hand_ins WHERE tenant=?1 AND key=?2 AND at>=?6", like->tenant);
    ledger_bind_text(s, 2, like->key);
    ledger_bind_text(s, 3, like->dataset);
    ledger_bind_text(s, 4, like->name);
    sqlite3_bind_int64(s, 5, like->size);
    sqlite3_bind_int64(s, 6, wall_ms);
    bool found = sqlite3_step(s) == SQLITE_ROW;
    if (found) {
        ledger_column_id(s, 0, ret_file_id, ID_SIZE);
        *ret_same = sqlite3_column_int(s, 1) != 0;
    }
    sqlite3_finalize(s);
    return found;
}

bool ledger_has_hand_in_before(struct ledger *l, int64_t wall_ms)
{
    sqlite3_stmt *s = query(l, "SELECT 1 FROM hand_ins WHERE at<?1 LIMIT 1", NULL);
    sqlite3_bind_int64(s, 1, wall_ms);
    bool found = sqlite3_step(s) == SQLITE_ROW;
    sqlite3_finalize(s);
    return found;
}
