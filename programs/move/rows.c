#include "move.h"

#include "accounts/accounts.h"
#include "base/fd.h"
#include "base/mem.h"
#include "db/db.h"
#include "db/tenants.h"
#include "host/move_record.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

enum { BUSY_MS = 10000 };

static const char *text(sqlite3_stmt *s, int i)
{
    const char *t = (const char *)sqlite3_column_text(s, i);
    return t ? t : "";
}

/* Another database beside the one that is open. */
static int attach(sqlite3 *db, const char *path, const char *as, struct err *e)
{
    AUTO_FREE char *sql = xasprintf("ATTACH ?1 AS %s", as);
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (r == SQLITE_OK)
        r = sqlite3_bind_text(s, 1, path, -1, SQLITE_STATIC);
    if (r == SQLITE_OK)
        r = sqlite3_step(s);
    sqlite3_finalize(s);
    return r == SQLITE_DONE ? 0 : err_set(e, -EIO, "cannot open %s: %s", path, db_why(db));
}

/* ?1 is the tenant. */
static int execute(sqlite3 *db, const char *sql, const char *tenant, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (r == SQLITE_OK && sqlite3_bind_parameter_count(s))
        r = sqlite3_bind_text(s, 1, tenant, -1, SQLITE_STATIC);
    if (r == SQLITE_OK)
        r = sqlite3_step(s);
    sqlite3_finalize(s);
    return r == SQLITE_DONE ? 0 : err_set(e, r == SQLITE_FULL ? -ENOSPC : -EIO, "cannot copy its rows: %s", db_why(db));
}

static int tenant_row(sqlite3 *db, const char *tenant, int64_t *ret_uid, bool *ret_suspended, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(db, "SELECT uid, suspended FROM ledger.tenants WHERE id=?1 AND purging=0", -1, &s, NULL);
    if (r == SQLITE_OK)
        r = sqlite3_bind_text(s, 1, tenant, -1, SQLITE_STATIC);
    if (r == SQLITE_OK && (r = sqlite3_step(s)) == SQLITE_ROW) {
        *ret_uid = sqlite3_column_int64(s, 0);
        *ret_suspended = sqlite3_column_int(s, 1) & TENANT_SUSPENDED;
    }
    sqlite3_finalize(s);
    return r == SQLITE_ROW    ? 0
           : r == SQLITE_DONE ? err_set(e, ERR_REFUSED, "the ledger has no tenant %s, or it is being removed", tenant)
                              : err_set(e, -EIO, "cannot read the ledger: %s", db_why(db));
}

static int copy_rows(sqlite3 *db, const struct order *o, struct err *e)
{
    static const char *const accounts[] = {
        "CREATE TABLE users AS SELECT * FROM accounts.users WHERE tenant=?1",
        "CREATE TABLE tokens AS SELECT t.* FROM accounts.tokens t JOIN accounts.users u ON t.user=u.id WHERE u.tenant=?1",
    };
    static const char *const rows[] = {
        "CREATE TABLE files AS SELECT * FROM ledger.files WHERE tenant=?1",
        "CREATE TABLE quality AS SELECT q.* FROM ledger.quality q JOIN files f USING(file_id)",
        "CREATE TABLE runs AS SELECT * FROM ledger.runs WHERE tenant=?1",
        "CREATE TABLE hand_ins AS SELECT * FROM ledger.hand_ins WHERE tenant=?1",
    };
    int r = 0;
    AUTO_FREE char *path = home_path(o->home, "state/accounts.db");
    const bool has = access(path, F_OK) == 0;
    if (has)
        r = attach(db, path, "accounts", e);
    for (size_t i = 0; r == 0 && has && i < 2; i++)
        r = execute(db, accounts[i], o->tenant, e);
    for (size_t i = 0; r == 0 && !o->ahead && i < sizeof rows / sizeof *rows; i++)
        r = execute(db, rows[i], o->tenant, e);
    return r;
}

/* Makes it anew, for what is copied into it. */
static int make(const char *to, sqlite3 **ret, struct err *e)
{
    unlink(to);
    return db_open(to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, ret) == SQLITE_OK &&
                   sqlite3_busy_timeout(*ret, BUSY_MS) == SQLITE_OK &&
                   sqlite3_exec(*ret, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF", NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : err_set(e, -EIO, "cannot write %s: %s", to, db_why(*ret));
}

int rows_export(const struct order *o, const char *path, int64_t *ret_uid, bool *ret_suspended, struct err *e)
{
    AUTO_FREE char *to = home_path(o->home, path), *ledger = home_path(o->home, "state/ledger.db");
    sqlite3 *db = NULL;
    int r = make(to, &db, e);
    if (r == 0)
        r = attach(db, ledger, "ledger", e);
    if (r == 0)
        r = tenant_row(db, o->tenant, ret_uid, ret_suspended, e);
    if (r == 0)
        r = copy_rows(db, o, e);
    sqlite3_close(db);
    return r;
}

static bool has_any(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s = NULL;
    const bool any = sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW;
    sqlite3_finalize(s);
    return any;
}

int rows_export_book(const struct order *o, const char *path, struct err *e)
{
    static const char *const rows[] = {
        "CREATE TABLE instances AS SELECT * FROM book.instances WHERE tenant=?1",
        "CREATE TABLE quality AS SELECT * FROM book.quality WHERE tenant=?1",
        "CREATE TABLE apps AS SELECT * FROM book.apps WHERE tenant=?1",
        "CREATE TABLE asks AS SELECT * FROM book.asks WHERE tenant=?1",
        "CREATE TABLE ask_keys AS SELECT * FROM book.ask_keys WHERE tenant=?1",
    };
    AUTO_FREE char *to = home_path(o->home, path), *book = home_path(o->home, "state/streams.db");
    sqlite3 *db = NULL;
    unlink(to);
    if (access(book, F_OK) < 0)
        return 0;
    int r = make(to, &db, e);
    if (r == 0)
        r = attach(db, book, "book", e);
    for (size_t i = 0; r == 0 && i < sizeof rows / sizeof *rows; i++)
        r = execute(db, rows[i], o->tenant, e);
    const bool is_empty = r == 0 && !has_any(db, "SELECT 1 FROM instances UNION ALL SELECT 1 FROM quality UNION ALL SELECT 1 FROM "
                                                 "apps UNION ALL SELECT 1 FROM asks UNION ALL SELECT 1 FROM ask_keys LIMIT 1");
    sqlite3_close(db);
    if (is_empty)
        unlink(to);
    return r;
}

int rows_each_id(const char *path, bool is_book, char ***ret, size_t *ret_n, struct err *e)
{
    static const char of_ledger[] = "SELECT 'work/'||file_id FROM files WHERE place='work' UNION ALL SELECT 'runs/'||run_id FROM "
                                    "runs WHERE pruned=0",
                      of_book[] = "SELECT 'runs/'||run_id FROM instances WHERE pruned=0";
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    int r = db_open(path, SQLITE_OPEN_READWRITE, &db);
    if (r == SQLITE_OK)
        r = sqlite3_prepare_v2(db, is_book ? of_book : of_ledger, -1, &s, NULL);
    while (r == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW) {
        *ret = xgrow(*ret, *ret_n, sizeof **ret);
        (*ret)[(*ret_n)++] = xstrdup(text(s, 0));
    }
    if (r != SQLITE_OK || sqlite3_finalize(s) != SQLITE_OK)
        r = err_set(e, -EIO, "cannot read %s: %s", path, db_why(db));
    sqlite3_close(db);
    return r;
}

/* ---- accounts ---- */

static int check_names(sqlite3 *db, const char *tenant, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int r =
        sqlite3_prepare_v2(db,
                           "SELECT m.name FROM moved.users m JOIN main.users u ON u.name=m.name AND u.id<>m.id OR u.id=m.id AND "
                           "u.tenant IS NOT ?1 UNION ALL SELECT name FROM moved.users WHERE tenant IS NOT ?1 LIMIT 1",
                           -1, &s, NULL);
    if (r == SQLITE_OK)
        sqlite3_bind_text(s, 1, tenant, -1, SQLITE_STATIC);
    if (r == SQLITE_OK)
        r = sqlite3_step(s);
    if (r == SQLITE_ROW)
        err_set(e, ERR_REFUSED, "its user %s has the name of another one in this home; remove one of the two (`mysimbdp user`)",
                text(s, 0));
    else if (r != SQLITE_DONE)
        err_set(e, -EIO, "cannot read its users: %s", db_why(db));
    sqlite3_finalize(s);
    return r == SQLITE_DONE ? 0 : r == SQLITE_ROW ? ERR_REFUSED : -EIO;
}

/* Also where its home had no accounts at all. */
static bool brings_users(const char *path)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    const bool any = db_open(path, SQLITE_OPEN_READWRITE, &db) == SQLITE_OK &&
                     sqlite3_prepare_v2(db, "SELECT 1 FROM users LIMIT 1", -1, &s, NULL) == SQLITE_OK &&
                     sqlite3_step(s) == SQLITE_ROW;
    sqlite3_finalize(s);
    sqlite3_close(db);
    return any;
}

/* A user is told from an older one of the same id by what is newer; moves back and forth bring the same ids. */
static int take(sqlite3 *db, const char *tenant, struct err *e)
{
    int r = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK ? 0 : err_set(e, -EIO, "%s", db_why(db));
    if (r == 0)
        r = execute(db, "INSERT OR REPLACE INTO main.users SELECT * FROM moved.users WHERE tenant=?1", tenant, e);
    if (r == 0)
        r = execute(db, "INSERT OR REPLACE INTO main.tokens SELECT * FROM moved.tokens WHERE user IN(SELECT id FROM moved.users)",
                    tenant, e);
    if (r == 0)
        r = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK ? 0 : err_set(e, -EIO, "%s", db_why(db));
    return r;
}

int rows_take_accounts(const struct home *h, const char *tenant, bool check, struct err *e)
{
    AUTO_FREE char *path = home_path(h, "state/accounts.db"), *from = xasprintf("%s/" MOVES_DIR "/%s.rows.db", h->path, tenant);
    struct accounts *made = NULL;
    sqlite3 *db = NULL;
    if (!brings_users(from))
        return 0;
    int r = accounts_open(h, &made, e); /* of this version, and there */
    accounts_close(made);
    if (r == 0 && (db_open(path, SQLITE_OPEN_READWRITE, &db) != SQLITE_OK || sqlite3_busy_timeout(db, BUSY_MS) != SQLITE_OK))
        r = err_set(e, -EIO, "cannot open %s: %s", path, db_why(db));
    if (r == 0)
        r = attach(db, from, "moved", e);
    if (r == 0)
        r = check_names(db, tenant, e);
    if (r == 0 && !check)
        r = take(db, tenant, e);
    sqlite3_close(db);
    return r;
}
