#include "instances_db.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/continuity.h"
#include "db/db.h"
#include "db/versions.h"
#include "model.h"
#include "quality.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum { BUSY_MS = 2800, N_STATEMENTS = 40, PRUNE_AT_ONCE = 1000 };

struct instances_db {
    const struct home *home;
    sqlite3 *db;
    struct continuity continuity; /* fd -1: opened for reading alone, commits are not counted */
    char why[200];                /* of the write that failed last */
    struct {                      /* prepared once; sql is a literal of this file */
        const char *sql;
        sqlite3_stmt *s;
    } statements[N_STATEMENTS];
    bool within, failed; /* a transaction of several statements is open; one of them failed */
};

static const char schema[] =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" CONTINUITY_TABLE
    "CREATE TABLE IF NOT EXISTS instances(run_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, app TEXT NOT NULL, generation INTEGER "
    "NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, outcome TEXT, exit_code INTEGER, signal INTEGER, lim TEXT, error "
    "TEXT, node TEXT, forced INTEGER, started_at INTEGER NOT NULL, ended_at INTEGER, wall_s REAL, cpu_s REAL, max_rss INTEGER, "
    "consumes INTEGER NOT NULL DEFAULT 0, pruned INTEGER NOT NULL DEFAULT 0, network_refused INTEGER NOT NULL DEFAULT -1) WITHOUT "
    "ROWID;"
    "CREATE INDEX IF NOT EXISTS instances_live ON instances(run_id) WHERE state<>'ended';"
    "CREATE INDEX IF NOT EXISTS instances_tenant ON instances(tenant, started_at);"
    "CREATE INDEX IF NOT EXISTS instances_started ON instances(started_at);"
    "CREATE INDEX IF NOT EXISTS instances_kept ON instances(tenant, ended_at) WHERE state='ended' AND pruned=0;"
    "CREATE TABLE IF NOT EXISTS bills(tenant TEXT, day INTEGER, name TEXT, value REAL NOT NULL, PRIMARY KEY(tenant, day, name)) "
    "WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS quality(tenant TEXT, app TEXT, day INTEGER, run_id TEXT, quality TEXT NOT NULL, PRIMARY "
    "KEY(tenant, "
    "app, day, run_id)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS quality_live ON quality(run_id) WHERE run_id<>'';"
    "CREATE TABLE IF NOT EXISTS apps(tenant TEXT, app TEXT, wanted INTEGER NOT NULL, stopped INTEGER NOT NULL, args TEXT, PRIMARY "
    "KEY(tenant, app)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS asks(id TEXT PRIMARY KEY, tenant TEXT NOT NULL, app TEXT NOT NULL, args TEXT NOT NULL) WITHOUT "
    "ROWID;"
    /* Not a column of asks, whose rows go when their instance ends. args: a hash of them. */
    "CREATE TABLE IF NOT EXISTS ask_keys(tenant TEXT, key TEXT, app TEXT NOT NULL, args INTEGER NOT NULL, id TEXT NOT NULL, "
    "at INTEGER NOT NULL, PRIMARY KEY(tenant, key)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS ask_keys_at ON ask_keys(at);"
    "CREATE INDEX IF NOT EXISTS ask_keys_of ON ask_keys(tenant, at);"
    "CREATE INDEX IF NOT EXISTS ask_keys_id ON ask_keys(id);";

/* Which need columns that an earlier version's tables had to be given. */
static const char indices[] =
    "CREATE INDEX IF NOT EXISTS instances_ends ON instances(tenant, app, ended_at) WHERE state='ended' AND ask IS NULL;"
    "CREATE INDEX IF NOT EXISTS instances_ask_ends ON instances(ask, ended_at) WHERE state='ended' AND ask IS NOT NULL;";

_Static_assert(VERSION_STREAMS == 1, "which is set here");
static const char numbered[] = "PRAGMA user_version=1;";

static int fail(struct instances_db *b, const char *what, struct err *e)
{
    return err_set(e, -EIO, "state/streams.db: cannot %s: %s", what, db_why(b->db));
}

/* What a book of an earlier version lacks. */
static int add_column(struct instances_db *b, const char *table, const char *column, const char *sql)
{
    if (sqlite3_table_column_metadata(b->db, NULL, table, column, NULL, NULL, NULL, NULL, NULL) == SQLITE_OK)
        return SQLITE_OK;
    return sqlite3_exec(b->db, sql, NULL, NULL, NULL);
}

static int open_tables(struct instances_db *b, const char *path, struct err *e)
{
    static const char *const later[][3] = {
        {"apps", "pinned", "ALTER TABLE apps ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0"},
        {"apps", "least", "ALTER TABLE apps ADD COLUMN least INTEGER NOT NULL DEFAULT -1"},
        {"instances", "ask", "ALTER TABLE instances ADD COLUMN ask TEXT"},
        {"instances", "network_refused", "ALTER TABLE instances ADD COLUMN network_refused INTEGER NOT NULL DEFAULT -1"},
    };
    int r = db_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &b->db);
    if (r == SQLITE_OK)
        r = sqlite3_busy_timeout(b->db, BUSY_MS);
    if (r == SQLITE_OK && version_of_db(b->db) > VERSION_STREAMS)
        return version_refused(path, version_of_db(b->db), VERSION_STREAMS, e);
    if (r == SQLITE_OK && (r = db_own(b->db, e)) < 0) {
        err_context(
            e,
            "%s cannot be used; put it back from a backup, or move it away and say `mysimbdp verify --accept`: what is lost "
            "is which instances ran, counts that a person set, and the quality of what stream apps read",
            path);
        return r;
    }
    if (r == SQLITE_OK)
        r = sqlite3_exec(b->db, schema, NULL, NULL, NULL);
    for (size_t i = 0; r == SQLITE_OK && i < sizeof later / sizeof *later; i++)
        r = add_column(b, later[i][0], later[i][1], later[i][2]);
    if (r == SQLITE_OK)
        r = sqlite3_exec(b->db, indices, NULL, NULL, NULL);
    if (r == SQLITE_OK && version_of_db(b->db) < VERSION_STREAMS)
        r = sqlite3_exec(b->db, numbered, NULL, NULL, NULL);
    return r == SQLITE_OK ? 0 : fail(b, "open it", e);
}

int instances_db_open(const struct home *h, bool owns, struct instances_db **ret, struct err *e)
{
    AUTO_FREE char *path = home_path(h, "state/streams.db");
    struct instances_db *b = xcalloc(1, sizeof *b);
    b->home = h;
    b->continuity.fd = -1;
    int r = continuity_look(&continuity_book, h, e);
    if (r == 0)
        r = open_tables(b, path, e);
    if (r == 0 && owns)
        r = continuity_init(&b->continuity, &continuity_book, h, b->db, e);
    if (r < 0) {
        instances_db_close(b);
        return r;
    }
    *ret = b;
    return 0;
}

void instances_db_close(struct instances_db *b)
{
    if (!b)
        return;
    for (int i = 0; i < N_STATEMENTS; i++)
        sqlite3_finalize(b->statements[i].s);
    continuity_fini(&b->continuity);
    sqlite3_close(b->db);
    free(b);
}

/* The same statement again for the same literal; reset by whoever used it. */
static sqlite3_stmt *prepare(struct instances_db *b, const char *sql)
{
    int i = 0;
    while (i < N_STATEMENTS - 1 && b->statements[i].sql && b->statements[i].sql != sql)
        i++;
    if (b->statements[i].sql != sql) {
        sqlite3_finalize(b->statements[i].s);
        b->statements[i].s = NULL;
        b->statements[i].sql = sqlite3_prepare_v2(b->db, sql, -1, &b->statements[i].s, NULL) == SQLITE_OK ? sql : NULL;
    }
    return b->statements[i].s;
}

static void bind_text(sqlite3_stmt *s, int i, const char *text)
{
    sqlite3_bind_text(s, i, text, -1, SQLITE_TRANSIENT);
}

static bool step(sqlite3_stmt *s)
{
    bool ok = s && sqlite3_step(s) == SQLITE_DONE;
    sqlite3_reset(s);
    return ok;
}

/* A transaction is counted (lib/db/continuity.h). */
static bool begin(struct instances_db *b)
{
    return sqlite3_exec(b->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK;
}

static bool commit(struct instances_db *b, bool ok)
{
    if (ok && b->continuity.fd >= 0)
        ok = continuity_count(&b->continuity) == SQLITE_OK;
    if (ok)
        ok = sqlite3_exec(b->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
    if (ok && b->continuity.fd >= 0)
        continuity_committed(&b->continuity);
    return ok;
}

/* Rolls back and keeps the reason in b->why; saying it is the caller's. */
static bool give_up(struct instances_db *b)
{
    snprintf(b->why, sizeof b->why, "%s", db_why(b->db));
    if (!sqlite3_get_autocommit(b->db))
        sqlite3_exec(b->db, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

/* Executes as a transaction of its own, or as part of the one that is open. */
static bool run(struct instances_db *b, sqlite3_stmt *s)
{
    if (b->within) {
        bool ok = step(s);
        if (!ok)
            snprintf(b->why, sizeof b->why, "%s", db_why(b->db));
        b->failed |= !ok;
        return ok;
    }
    return commit(b, begin(b) && step(s)) || give_up(b);
}

/* What the next transactions have, and all before it, is on the disk when they are committed: what people asked for. */
static void sync_commits(struct instances_db *b, bool on)
{
    sqlite3_exec(b->db, on ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", NULL, NULL, NULL);
}

static int fail_write(struct instances_db *b, const char *what, struct err *e)
{
    return err_set(e, -EIO, "state/streams.db: cannot %s: %s", what, b->why);
}

static const char *text(sqlite3_stmt *s, int column)
{
    return (const char *)sqlite3_column_text(s, column);
}

int instances_db_begin(struct instances_db *b, const struct instance *i, struct err *e)
{
    static const char sql[] = "INSERT INTO instances(run_id, tenant, app, generation, attempt, state, started_at, max_rss, ask) "
                              "VALUES(?1, ?2, ?3, ?4, ?5, 'starting', ?6, -1, ?7)";
    sqlite3_stmt *s = prepare(b, sql);
    bind_text(s, 1, i->run_id);
    bind_text(s, 2, i->app->tenant);
    bind_text(s, 3, i->app->name);
    sqlite3_bind_int64(s, 4, (int64_t)i->generation);
    sqlite3_bind_int64(s, 5, i->attempt);
    sqlite3_bind_int64(s, 6, i->started_wall_ms);
    bind_text(s, 7, *i->ask ? i->ask : NULL);
    return run(b, s) ? 0 : fail_write(b, "note an instance", e);
}

static void run_or_complain(struct instances_db *b, sqlite3_stmt *s, const struct instance *i)
{
    if (!run(b, s))
        log_error("book", i->app->tenant, i->run_id, "state/streams.db: %s", b->why);
}

void instances_db_started(struct instances_db *b, const struct instance *i)
{
    static const char sql[] = "UPDATE instances SET state='running' WHERE run_id=?1 AND state='starting'";
    sqlite3_stmt *s = prepare(b, sql);
    bind_text(s, 1, i->run_id);
    run_or_complain(b, s, i);
}

void instances_db_node(struct instances_db *b, const struct instance *i)
{
    static const char sql[] = "UPDATE instances SET node=?2 WHERE run_id=?1 AND state<>'ended'";
    sqlite3_stmt *s = prepare(b, sql);
    bind_text(s, 1, i->run_id);
    bind_text(s, 2, i->node);
    run_or_complain(b, s, i);
}

void instances_db_consumes(struct instances_db *b, const struct instance *i)
{
    static const char sql[] = "UPDATE instances SET consumes=1 WHERE run_id=?1";
    sqlite3_stmt *s = prepare(b, sql);
    bind_text(s, 1, i->run_id);
    run_or_complain(b, s, i);
}

void instances_db_draining(struct instances_db *b, const struct instance *i)
{
    static const char sql[] = "UPDATE instances SET error=?2 WHERE run_id=?1 AND state<>'ended'";
    sqlite3_stmt *s = prepare(b, sql);
    bind_text(s, 1, i->run_id);
    bind_text(s, 2, i->stop);
    run_or_complain(b, s, i);
}

static void note_end(struct instances_db *b, const struct instance *i, const struct run_result *res)
{
    static const char sql[] = "UPDATE instances SET state='ended', outcome=?2, exit_code=?3, signal=?4, lim=?5, error=?6, node=?7, "
                              "forced=?8, ended_at=?9, wall_s=?10, cpu_s=?11, max_rss=?12, network_refused=?13 WHERE run_id=?1";
    sqlite3_stmt *s = prepare(b, sql);
    bind_text(s, 1, i->run_id);
    bind_text(s, 2, run_outcome_name(res->outcome));
    sqlite3_bind_int(s, 3, res->exit_code);
    sqlite3_bind_int(s, 4, res->signal);
    bind_text(s, 5, run_limit_name(res->limit));
    bind_text(s, 6, i->stop ? i->stop : res->error);
    bind_text(s, 7, res->node);
    sqlite3_bind_int(s, 8, res->forced);
    sqlite3_bind_int64(s, 9, res->ended_wall_ms);
    sqlite3_bind_double(s, 10, res->wall_s);
    sqlite3_bind_double(s, 11, res->cpu_s);
    sqlite3_bind_int64(s, 12, res->max_rss_bytes);
    sqlite3_bind_int64(s, 13, res->network_refused);
    run_or_complain(b, s, i);
}

void instances_db_ended(struct instances_db *b, const struct instance *i, const struct run_result *res)
{
    b->failed = !begin(b);
    if (!b->failed) {
        b->within = true;
        quality_end(b, i, res);
        note_end(b, i, res);
        b->within = false;
        if (commit(b, !b->failed))
            return;
    }
    give_up(b);
    log_error("book", i->app->tenant, i->run_id, "state/streams.db: %s", b->why);
    note_end(b, i, res); /* the end has to be noted, if need be without the figures of what was read */
}

static void bind_quality(sqlite3_stmt *s, const struct instance *i, const char *run_id, int64_t day)
{
    bind_text(s, 1, i->app->tenant);
    bind_text(s, 2, i->app->name);
    sqlite3_bind_int64(s, 3, day);
    bind_text(s, 4, run_id);
}

void instances_db_put_quality(struct instances_db *b, const struct instance *i, const char *run_id, int64_t day, const char *text)
{
    static const char sql[] = "INSERT OR REPLACE INTO quality(tenant, app, day, run_id, quality) VALUES(?1, ?2, ?3, ?4, ?5)";
    sqlite3_stmt *s = prepare(b, sql);
    bind_quality(s, i, run_id, day);
    bind_text(s, 5, text);
    run_or_complain(b, s, i);
}

char *instances_db_quality(struct instances_db *b, const struct instance *i, const char *run_id, int64_t day)
{
    static const char sql[] = "SELECT quality FROM quality WHERE tenant=?1 AND app=?2 AND day=?3 AND run_id=?4";
    sqlite3_stmt *s = prepare(b, sql);
    bind_quality(s, i, run_id, day);
    char *found = s && sqlite3_step(s) == SQLITE_ROW ? xstrdup(text(s, 0)) : NULL;
    sqlite3_reset(s);
    return found;
}

size_t instances_db_quality_days(struct instances_db *b, const struct instance *i, int64_t *days, size_t max)
{
    static const char sql[] = "SELECT day FROM quality WHERE run_id=?1 AND run_id<>'' ORDER BY day";
    size_t n = 0;
    sqlite3_stmt *s = prepare(b, sql);
    bind_text(s, 1, i->run_id);
    while (s && n < max && sqlite3_step(s) == SQLITE_ROW)
        days[n++] = sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return n;
}

bool instances_db_drop_quality(struct instances_db *b, const struct instance *i, int64_t day)
{
    static const char sql[] = "DELETE FROM quality WHERE tenant=?1 AND app=?2 AND day=?3 AND run_id=?4";
    sqlite3_stmt *s = prepare(b, sql);
    bind_quality(s, i, i->run_id, day);
    return run(b, s);
}

int instances_db_each_live(struct instances_db *b, void (*fn)(void *arg, const struct instances_db_row *i), void *arg,
                           struct err *e)
{
    static const char sql[] =
        "SELECT run_id, tenant, app, ask, error, generation, attempt, started_at, consumes FROM instances WHERE state<>'ended' "
        "ORDER BY run_id";
    sqlite3_stmt *s = prepare(b, sql);
    int r = SQLITE_ERROR;
    while (s && (r = sqlite3_step(s)) == SQLITE_ROW)
        fn(arg, &(struct instances_db_row){text(s, 0), text(s, 1), text(s, 2), text(s, 3), text(s, 4),
                                           (uint64_t)sqlite3_column_int64(s, 5), sqlite3_column_int64(s, 6),
                                           sqlite3_column_int64(s, 7), sqlite3_column_int(s, 8)});
    sqlite3_reset(s);
    return r == SQLITE_DONE ? 0 : fail(b, "read the instances", e);
}

bool instances_db_is_ended(struct instances_db *b, const char *run_id)
{
    static const char sql[] = "SELECT 1 FROM instances WHERE run_id=?1 AND state='ended'";
    sqlite3_stmt *s = prepare(b, sql);
    bind_text(s, 1, run_id);
    bool ended = s && sqlite3_step(s) == SQLITE_ROW;
    sqlite3_reset(s);
    return ended;
}

#define END "SELECT run_id, outcome, exit_code, signal, lim, error, ended_at FROM instances WHERE state='ended' AND "

void instances_db_add_last_end(struct instances_db *b, const struct app *a, const char *ask, struct buf *out, const char *key)
{
    static const char of_app[] = END "ask IS NULL AND tenant=?1 AND app=?2 ORDER BY ended_at DESC LIMIT 1",
                      of_ask[] = END "ask IS NOT NULL AND ask=?3 AND tenant=?1 AND app=?2 ORDER BY ended_at DESC LIMIT 1";
    sqlite3_stmt *s = prepare(b, ask ? of_ask : of_app);
    bind_text(s, 1, a->tenant);
    bind_text(s, 2, a->name);
    if (ask)
        bind_text(s, 3, ask);
    if (s && sqlite3_step(s) == SQLITE_ROW) {
        json_begin(out, key, '{');
        json_str(out, "run_id", text(s, 0));
        json_str(out, "outcome", text(s, 1));
        json_i64_or_null(out, "exit_code", sqlite3_column_int64(s, 2));
        json_i64_or_null(out, "signal", sqlite3_column_int64(s, 3));
        json_str(out, "limit", text(s, 4));
        json_str(out, "error", text(s, 5));
        json_time(out, "ended_at", sqlite3_column_int64(s, 6));
        json_end(out, '}');
    } else {
        json_null(out, key);
    }
    sqlite3_reset(s);
}

int instances_db_put_app(struct instances_db *b, const struct app *a, struct err *e)
{
    static const char sql[] =
        "INSERT OR REPLACE INTO apps(tenant, app, wanted, stopped, args, pinned, least) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    sqlite3_stmt *s = prepare(b, sql);
    bind_text(s, 1, a->tenant);
    bind_text(s, 2, a->name);
    sqlite3_bind_int64(s, 3, a->wanted);
    sqlite3_bind_int(s, 4, a->stopped);
    bind_text(s, 5, a->args);
    sqlite3_bind_int(s, 6, a->pinned);
    sqlite3_bind_int64(s, 7, a->least);
    sync_commits(b, true);
    bool ok = run(b, s);
    sync_commits(b, false);
    return ok ? 0 : fail_write(b, "note what is asked for of an app", e);
}

int instances_db_each_app(struct instances_db *b, void (*fn)(void *arg, const struct instances_db_app *a), void *arg, struct err *e)
{
    static const char sql[] = "SELECT tenant, app, args, wanted, least, stopped, pinned FROM apps";
    sqlite3_stmt *s = prepare(b, sql);
    int r = SQLITE_ERROR;
    while (s && (r = sqlite3_step(s)) == SQLITE_ROW)
        fn(arg, &(struct instances_db_app){text(s, 0), text(s, 1), text(s, 2), sqlite3_column_int64(s, 3),
                                           sqlite3_column_int64(s, 4), sqlite3_column_int(s, 5), sqlite3_column_int(s, 6)});
    sqlite3_reset(s);
    return r == SQLITE_DONE ? 0 : fail(b, "read what is asked for", e);
}

static int64_t hash(const char *args)
{
    return (int64_t)XXH3_64bits(args, strlen(args));
}

static bool put_key(struct instances_db *b, const struct app *a, const struct ask *ask, const char *key)
{
    static const char put[] = "INSERT OR REPLACE INTO ask_keys(tenant, key, app, args, id, at) VALUES(?1, ?2, ?3, ?4, ?5, ?6)";
    static const char prune[] = "DELETE FROM ask_keys WHERE at<?2 OR (tenant=?1 AND at<=(SELECT at FROM ask_keys WHERE tenant=?1 "
                                "ORDER BY at DESC LIMIT 1 OFFSET ?3))";
    sqlite3_stmt *s = prepare(b, put);
    bind_text(s, 1, a->tenant);
    bind_text(s, 2, key);
    bind_text(s, 3, a->name);
    sqlite3_bind_int64(s, 4, hash(ask->args));
    bind_text(s, 5, ask->id);
    sqlite3_bind_int64(s, 6, clk_wall_ms());
    if (!step(s))
        return false;
    s = prepare(b, prune);
    bind_text(s, 1, a->tenant);
    sqlite3_bind_int64(s, 2, clk_wall_ms() - ASK_KEY_KEPT_MS);
    sqlite3_bind_int(s, 3, ASK_KEYS_KEPT);
    return step(s);
}

int instances_db_put_ask(struct instances_db *b, const struct app *a, const struct ask *ask, const char *key, struct err *e)
{
    static const char sql[] = "INSERT INTO asks(id, tenant, app, args) VALUES(?1, ?2, ?3, ?4)";
    sqlite3_stmt *s = prepare(b, sql);
    bind_text(s, 1, ask->id);
    bind_text(s, 2, a->tenant);
    bind_text(s, 3, a->name);
    bind_text(s, 4, ask->args);
    sync_commits(b, true);
    bool ok = begin(b) && step(s) && (!key || put_key(b, a, ask, key));
    ok = commit(b, ok) || give_up(b);
    sync_commits(b, false);
    return ok ? 0 : fail_write(b, "note an instance that is asked for", e);
}

int instances_db_find_key(struct instances_db *b, const struct app *a, const char *key, const char *args, char ret_id[ID_SIZE],
                          bool *ret_same, struct err *e)
{
    static const char sql[] = "SELECT id, app=?4 AND args=?5 FROM ask_keys WHERE tenant=?1 AND key=?2 AND at>=?3";
    sqlite3_stmt *s = prepare(b, sql);
    bind_text(s, 1, a->tenant);
    bind_text(s, 2, key);
    sqlite3_bind_int64(s, 3, clk_wall_ms() - ASK_KEY_KEPT_MS);
    bind_text(s, 4, a->name);
    sqlite3_bind_int64(s, 5, hash(args));
    int r = s ? sqlite3_step(s) : SQLITE_ERROR;
    if (r == SQLITE_ROW) {
        snprintf(ret_id, ID_SIZE, "%s", text(s, 0));
        *ret_same = sqlite3_column_int(s, 1);
    }
    sqlite3_reset(s);
    return r == SQLITE_ROW ? 1 : r == SQLITE_DONE ? 0 : fail(b, "read what was asked for by a key", e);
}

void instances_db_take_back_ask(struct instances_db *b, const struct app *a, const struct ask *ask)
{
    static const char *const sql[] = {"DELETE FROM asks WHERE id=?1", "DELETE FROM ask_keys WHERE id=?1"};
    bool ok = begin(b);
    for (size_t i = 0; ok && i < sizeof sql / sizeof *sql; i++) {
        sqlite3_stmt *s = prepare(b, sql[i]);
        bind_text(s, 1, ask->id);
        ok = step(s);
    }
    if (!commit(b, ok) && !give_up(b))
        log_error("book", a->tenant, ask->id, "state/streams.db: %s", b->why);
}

void instances_db_drop_ask(struct instances_db *b, const struct app *a, const struct ask *ask)
{
    static const char sql[] = "DELETE FROM asks WHERE id=?1";
    sqlite3_stmt *s = prepare(b, sql);
    bind_text(s, 1, ask->id);
    if (!run(b, s))
        log_error("book", a->tenant, ask->id, "state/streams.db: %s", b->why);
}

int instances_db_each_ask(struct instances_db *b,
                          void (*fn)(void *arg, const char *tenant, const char *app, const char *id, const char *args), void *arg,
                          struct err *e)
{
    static const char sql[] = "SELECT tenant, app, id, args FROM asks ORDER BY id DESC";
    sqlite3_stmt *s = prepare(b, sql);
    int r = SQLITE_ERROR;
    while (s && (r = sqlite3_step(s)) == SQLITE_ROW)
        fn(arg, text(s, 0), text(s, 1), text(s, 2), text(s, 3));
    sqlite3_reset(s);
    return r == SQLITE_DONE ? 0 : fail(b, "read which instances are asked for", e);
}

int instances_db_prune(struct instances_db *b, const char *tenant, int64_t before_wall_ms, int max)
{
    static const char find[] =
        "SELECT run_id FROM instances WHERE tenant=?1 AND ended_at<?2 AND state='ended' AND pruned=0 LIMIT ?3";
    static const char mark[] = "UPDATE instances SET pruned=1 WHERE run_id=?1";
    char **ids = xcalloc((size_t)max, sizeof *ids);
    int n = 0;
    sqlite3_stmt *s = prepare(b, find);
    bind_text(s, 1, tenant);
    sqlite3_bind_int64(s, 2, before_wall_ms);
    sqlite3_bind_int(s, 3, max);
    while (s && n < max && sqlite3_step(s) == SQLITE_ROW)
        ids[n++] = xstrdup(text(s, 0));
    sqlite3_reset(s);
    for (int i = 0; i < n; i++) {
        AUTO_FREE char *dir = xasprintf("runs/%s", ids[i]);
        fd_remove_tree(b->home->dirfd, dir);
    }
    bool ok = begin(b);
    for (int i = 0; i < n; i++) {
        s = prepare(b, mark);
        bind_text(s, 1, ids[i]);
        ok = ok && step(s);
        free(ids[i]);
    }
    if (!commit(b, ok))
        give_up(b); /* the next time they are looked for again */
    free(ids);
    return n;
}

int instances_db_forget(struct instances_db *b, const char *tenant, bool bill, struct err *e)
{
    enum { N_BILLS = 2 };
    /* What it is billed by stays, by UTC day, as `mysimbdp stats` has it (programs/batchmgr/bill.h). */
    static const char *const sql[] = {
        "INSERT INTO bills SELECT tenant, ended_at/86400000, 'instance_s', sum(max(0, ended_at-started_at))/1000.0 FROM instances "
        "WHERE "
        "tenant=?1 AND ended_at IS NOT NULL GROUP BY 1,2 ON CONFLICT DO UPDATE SET value=value+excluded.value",
        "INSERT INTO bills SELECT tenant, ended_at/86400000, 'cpu_s', sum(cpu_s) FROM instances WHERE tenant=?1 AND ended_at IS "
        "NOT "
        "NULL AND cpu_s IS NOT NULL GROUP BY 1,2 ON CONFLICT DO UPDATE SET value=value+excluded.value",
        "DELETE FROM instances WHERE tenant=?1",
        "DELETE FROM quality WHERE tenant=?1",
        "DELETE FROM apps WHERE tenant=?1",
        "DELETE FROM asks WHERE tenant=?1",
        "DELETE FROM ask_keys WHERE tenant=?1"};
    while (instances_db_prune(b, tenant, INT64_MAX, PRUNE_AT_ONCE) == PRUNE_AT_ONCE) {
    }
    bool ok = begin(b);
    for (size_t i = bill ? 0 : N_BILLS; ok && i < sizeof sql / sizeof *sql; i++) {
        sqlite3_stmt *s = prepare(b, sql[i]);
        bind_text(s, 1, tenant);
        ok = step(s);
    }
    return commit(b, ok) || give_up(b) ? 0 : fail_write(b, "forget a tenant", e);
}
