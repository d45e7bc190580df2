/* Rows are taken in parts, so that other tenants' commits are not held up by a large tenant. Killed between two, what is there is
 * the tenant's and harmless: it is held, and the next time all of them come again. */
#include "ledger_moves.h"
#include "ledger_rows.h"

#include "base/mem.h"
#include "conf/conf.h"
#include "db/db.h"
#include "db/tenants.h"

#include <errno.h>
#include <string.h>

enum { PART = 2000 };

int ledger_moves(struct ledger *l, const char *tenant)
{
    return (int)ledger_get_i64(ledger_reader(l), "SELECT suspended FROM tenants WHERE id=?1", tenant, 0);
}

int ledger_set_moves(struct ledger *l, const char *tenant, int set, int clear, struct err *e)
{
    AUTO_FREE char *sql = xasprintf("UPDATE tenants SET suspended=(suspended & ~%d) | %d WHERE id='%s'", clear, set, tenant);
    if (!conf_valid_id(tenant) || sqlite3_exec(ledger_reader(l), sql, NULL, NULL, NULL) != SQLITE_OK)
        return err_set(e, -EIO, "cannot store that tenant %s is moved: %s", tenant, db_why(ledger_reader(l)));
    return sqlite3_changes(ledger_reader(l)) ? 0 : err_set(e, ERR_REFUSED, "the ledger has no tenant %s", tenant);
}

/* WHAT:TENANT of the table meta. The caller frees; NULL: there is none. */
static char *meta(struct ledger *l, const char *what, const char *tenant)
{
    AUTO_FREE char *key = xasprintf("%s:%s", what, tenant);
    sqlite3_stmt *s = NULL;
    char *value = NULL;
    if (sqlite3_prepare_v2(ledger_reader(l), "SELECT value FROM meta WHERE key=?1", -1, &s, NULL) == SQLITE_OK) {
        ledger_bind_text(s, 1, key);
        if (sqlite3_step(s) == SQLITE_ROW)
            value = ledger_column(s, 0);
    }
    sqlite3_finalize(s);
    return value;
}

static int set_meta(struct ledger *l, const char *what, const char *tenant, const char *value, struct err *e)
{
    AUTO_FREE char *key = xasprintf("%s:%s", what, tenant);
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(ledger_reader(l),
                               value ? "INSERT OR REPLACE INTO meta VALUES(?1,?2)" : "DELETE FROM meta WHERE key=?1", -1, &s, NULL);
    if (r == SQLITE_OK) {
        ledger_bind_text(s, 1, key);
        if (value)
            ledger_bind_text(s, 2, value);
        r = sqlite3_step(s);
    }
    sqlite3_finalize(s);
    return r == SQLITE_DONE ? 0 : err_set(e, -EIO, "cannot store where tenant %s is: %s", tenant, db_why(ledger_reader(l)));
}

char *ledger_moved_to(struct ledger *l, const char *tenant)
{
    return meta(l, "moved", tenant);
}

int ledger_set_moved_to(struct ledger *l, const char *tenant, const char *to, struct err *e)
{
    return set_meta(l, "moved", tenant, to, e);
}

bool ledger_is_alone(struct ledger *l, const char *tenant)
{
    AUTO_FREE char *is = meta(l, "alone", tenant);
    return is != NULL;
}

int ledger_set_alone(struct ledger *l, const char *tenant, struct err *e)
{
    return set_meta(l, "alone", tenant, "1", e);
}

/* ---- rows ---- */

struct table {
    const char *name, *id, *owner; /* owner: what of a row `x` there is the tenant's id, ?1 */
};
static const struct table tables[] = {
    {"files", "file_id", "x.tenant"},
    {"quality", "file_id", "(SELECT tenant FROM moved.files f WHERE f.file_id=x.file_id)"},
    {"runs", "run_id", "x.tenant"},
    {"hand_ins", "key", "x.tenant"},
};

/* Whether some row answers the query, whose ?1 is the tenant; or negative. */
static int answers(sqlite3 *db, const char *sql, const char *tenant, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (r == SQLITE_OK && sqlite3_bind_parameter_count(s))
        ledger_bind_text(s, 1, tenant);
    if (r == SQLITE_OK)
        r = sqlite3_step(s);
    sqlite3_finalize(s);
    return r == SQLITE_ROW ? 1 : r == SQLITE_DONE ? 0 : err_set(e, -EIO, "cannot read the rows that came: %s", db_why(db));
}

static int check(sqlite3 *db, const struct table *t, const char *tenant, struct err *e)
{
    AUTO_FREE char *foreign = xasprintf("SELECT 1 FROM moved.%s x WHERE %s IS NOT ?1 LIMIT 1", t->name, t->owner);
    AUTO_FREE char *taken =
        xasprintf("SELECT 1 FROM moved.%s x JOIN main.%s m USING(%s) WHERE m.tenant<>?1 LIMIT 1", t->name, t->name, t->id);
    AUTO_FREE char *newer = xasprintf("SELECT 1 FROM pragma_table_info('%s', 'moved') WHERE name NOT IN(SELECT name FROM "
                                      "pragma_table_info('%s', 'main')) LIMIT 1",
                                      t->name, t->name);
    const bool has_tenant = !strcmp(t->name, "files") || !strcmp(t->name, "runs");
    int r = answers(db, newer, tenant, e);
    if (r > 0)
        return err_set(e, ERR_VERSION, "its rows (%s) are of a newer version: upgrade this home first", t->name);
    if (r == 0)
        r = answers(db, foreign, tenant, e);
    if (r > 0)
        return err_set(e, ERR_REFUSED, "it has rows (%s) that are not tenant %s's", t->name, tenant);
    if (r == 0 && has_tenant)
        r = answers(db, taken, tenant, e);
    return r > 0 ? err_set(e, ERR_REFUSED, "an id of its %s is another tenant's in this home", t->name) : r;
}

/* The columns that the rows there have. The caller frees. */
static char *columns(sqlite3 *db, const char *table)
{
    AUTO_FREE char *sql = xasprintf("SELECT group_concat(name) FROM pragma_table_info('%s', 'moved')", table);
    sqlite3_stmt *s = NULL;
    char *v = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        v = ledger_column(s, 0);
    sqlite3_finalize(s);
    return v;
}

static int take(sqlite3 *db, const struct table *t, struct err *e)
{
    AUTO_FREE char *names = columns(db, t->name);
    for (int64_t at = 0, end = 0; names && at <= end; at += PART) {
        AUTO_FREE char *last = xasprintf("SELECT max(rowid) FROM moved.%s", t->name);
        end = ledger_get_i64(db, last, NULL, 0);
        AUTO_FREE char *sql =
            xasprintf("INSERT OR REPLACE INTO main.%s(%s) SELECT %s FROM moved.%s WHERE rowid>%lld AND rowid<=%lld", t->name, names,
                      names, t->name, (long long)at, (long long)(at + PART));
        if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
            return err_set(e, sqlite3_errcode(db) == SQLITE_FULL ? -ENOSPC : -EIO, "cannot keep its rows: %s", db_why(db));
    }
    return 0;
}

int ledger_take_rows(const struct home *h, const char *tenant, const char *path, struct err *e)
{
    const size_t n = sizeof tables / sizeof *tables;
    AUTO_FREE char *ledger = home_path(h, "state/ledger.db"), *from = home_path(h, path);
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    int r = ledger_connect(ledger, &db, e);
    if (r == 0 && (sqlite3_prepare_v2(db, "ATTACH ?1 AS moved", -1, &s, NULL) != SQLITE_OK ||
                   sqlite3_bind_text(s, 1, from, -1, SQLITE_STATIC) != SQLITE_OK || sqlite3_step(s) != SQLITE_DONE))
        r = err_set(e, -EIO, "cannot open %s: %s", from, db_why(db));
    sqlite3_finalize(s);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = check(db, &tables[i], tenant, e);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = take(db, &tables[i], e);
    sqlite3_close(db);
    return r;
}
