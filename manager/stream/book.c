#include "book.h"
#include "common/log.h"
#include "common/mem.h"
#include "streammgr.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>

enum { BUSY_MS = 2000 };

struct book {
    sqlite3 *db;
};

static const char schema[] =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
    "CREATE TABLE IF NOT EXISTS instances(run_id TEXT PRIMARY KEY, tenant TEXT, app TEXT, generation INTEGER, attempt INTEGER, "
    "state TEXT,"
    " outcome TEXT, exit_code INTEGER, signal INTEGER, lim TEXT, error TEXT, node TEXT, forced INTEGER, started_at INTEGER,"
    " ended_at INTEGER, wall_s REAL, cpu_s REAL, max_rss INTEGER) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS instances_live ON instances(run_id) WHERE state<>'ended';"
    "CREATE INDEX IF NOT EXISTS instances_tenant ON instances(tenant, started_at);"
    "CREATE TABLE IF NOT EXISTS stopped(tenant TEXT, app TEXT, PRIMARY KEY(tenant, app)) WITHOUT ROWID;";

static int fail(struct book *b, const char *what, struct err *e)
{
    return err_set(e, -EIO, "state/streams.db: cannot %s: %s", what, b->db ? sqlite3_errmsg(b->db) : "out of memory");
}

int book_open(const struct home *h, struct book **ret, struct err *e)
{
    AUTO_FREE char *path = home_path(h, "state/streams.db");
    struct book *b = xcalloc(1, sizeof *b);
    int r = sqlite3_open_v2(path, &b->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (r == SQLITE_OK)
        r = sqlite3_busy_timeout(b->db, BUSY_MS);
    if (r == SQLITE_OK)
        r = sqlite3_exec(b->db, schema, NULL, NULL, NULL);
    if (r != SQLITE_OK) {
        r = fail(b, "open it", e);
        book_close(b);
        return r;
    }
    *ret = b;
    return 0;
}

void book_close(struct book *b)
{
    if (!b)
        return;
    sqlite3_close(b->db);
    free(b);
}

static sqlite3_stmt *prepare(struct book *b, const char *sql)
{
    sqlite3_stmt *s = NULL;
    sqlite3_prepare_v2(b->db, sql, -1, &s, NULL);
    return s;
}

static void bind_text(sqlite3_stmt *s, int i, const char *text)
{
    sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
}

static bool run(sqlite3_stmt *s)
{
    bool ok = s && sqlite3_step(s) == SQLITE_DONE;
    sqlite3_finalize(s);
    return ok;
}

int book_begin(struct book *b, const struct instance *i, struct err *e)
{
    sqlite3_stmt *s = prepare(b, "INSERT INTO instances(run_id, tenant, app, generation, attempt, state, started_at, max_rss) "
                                 "VALUES(?1, ?2, ?3, ?4, ?5, 'starting', ?6, -1)");
    bind_text(s, 1, i->run_id);
    bind_text(s, 2, i->app->tenant);
    bind_text(s, 3, i->app->name);
    sqlite3_bind_int64(s, 4, (int64_t)i->generation);
    sqlite3_bind_int64(s, 5, i->attempt);
    sqlite3_bind_int64(s, 6, i->started_wall_ms);
    return run(s) ? 0 : fail(b, "note an instance", e);
}

static void complain(struct book *b, const struct instance *i)
{
    log_error("book", i->app->tenant, i->run_id, "state/streams.db: %s", sqlite3_errmsg(b->db));
}

void book_started(struct book *b, const struct instance *i)
{
    sqlite3_stmt *s = prepare(b, "UPDATE instances SET state='running' WHERE run_id=?1 AND state='starting'");
    bind_text(s, 1, i->run_id);
    if (!run(s))
        complain(b, i);
}

void book_ended(struct book *b, const struct instance *i, const struct run_result *res)
{
    sqlite3_stmt *s =
        prepare(b, "UPDATE instances SET state='ended', outcome=?2, exit_code=?3, signal=?4, lim=?5, error=?6, node=?7, "
                   "forced=?8, ended_at=?9, wall_s=?10, cpu_s=?11, max_rss=?12 WHERE run_id=?1");
    bind_text(s, 1, i->run_id);
    bind_text(s, 2, run_outcome_name(res->outcome));
    sqlite3_bind_int(s, 3, res->exit_code);
    sqlite3_bind_int(s, 4, res->signal);
    bind_text(s, 5, res->limit);
    bind_text(s, 6, i->stop ? i->stop : res->error);
    bind_text(s, 7, res->node);
    sqlite3_bind_int(s, 8, res->forced);
    sqlite3_bind_int64(s, 9, res->ended_wall_ms);
    sqlite3_bind_double(s, 10, res->wall_s);
    sqlite3_bind_double(s, 11, res->cpu_s);
    sqlite3_bind_int64(s, 12, res->max_rss_bytes);
    if (!run(s))
        complain(b, i);
}

int book_each_live(struct book *b,
                   void (*fn)(void *arg, const char *run_id, const char *tenant, const char *app, uint64_t generation,
                              int64_t attempt, int64_t started_wall_ms),
                   void *arg, struct err *e)
{
    sqlite3_stmt *s = prepare(b, "SELECT run_id, tenant, app, generation, attempt, started_at FROM instances WHERE state<>'ended'");
    int r = SQLITE_ERROR;
    while (s && (r = sqlite3_step(s)) == SQLITE_ROW)
        fn(arg, (const char *)sqlite3_column_text(s, 0), (const char *)sqlite3_column_text(s, 1),
           (const char *)sqlite3_column_text(s, 2), (uint64_t)sqlite3_column_int64(s, 3), sqlite3_column_int64(s, 4),
           sqlite3_column_int64(s, 5));
    sqlite3_finalize(s);
    return r == SQLITE_DONE ? 0 : fail(b, "read the instances", e);
}

int book_set_stopped(struct book *b, const char *tenant, const char *app, bool stopped, struct err *e)
{
    sqlite3_stmt *s =
        prepare(b, stopped ? "INSERT OR REPLACE INTO stopped VALUES(?1, ?2)" : "DELETE FROM stopped WHERE tenant=?1 AND app=?2");
    bind_text(s, 1, tenant);
    bind_text(s, 2, app);
    return run(s) ? 0 : fail(b, "note that an app is stopped", e);
}

int book_each_stopped(struct book *b, void (*fn)(void *arg, const char *tenant, const char *app), void *arg, struct err *e)
{
    sqlite3_stmt *s = prepare(b, "SELECT tenant, app FROM stopped");
    int r = SQLITE_ERROR;
    while (s && (r = sqlite3_step(s)) == SQLITE_ROW)
        fn(arg, (const char *)sqlite3_column_text(s, 0), (const char *)sqlite3_column_text(s, 1));
    sqlite3_finalize(s);
    return r == SQLITE_DONE ? 0 : fail(b, "read what is stopped", e);
}

int book_forget(struct book *b, const char *tenant, struct err *e)
{
    static const char *const sql[] = {"DELETE FROM instances WHERE tenant=?1", "DELETE FROM stopped WHERE tenant=?1"};
    for (size_t i = 0; i < sizeof sql / sizeof *sql; i++) {
        sqlite3_stmt *s = prepare(b, sql[i]);
        bind_text(s, 1, tenant);
        if (!run(s))
            return fail(b, "forget a tenant", e);
    }
    return 0;
}
