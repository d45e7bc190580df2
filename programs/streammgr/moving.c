/* Rows are checked as a whole, then taken in parts, each a transaction of its own. Killed in between, what is there is the tenant's
 * and harmless: it is held, and the next time all of them come again. What was asked for of its apps is in memory once all are
 * there. */
#include "moving.h"
#include "recover.h"
#include "streammgr.h"
#include "tenant_facts.h"

#include "base/crash.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "db/db.h"
#include "host/move_record.h"
#include "loop/ctl.h"
#include "loop/timer.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>

enum { PART = 500, BUSY_MS = 2800 };

static const struct table {
    const char *name, *id; /* id: what no other tenant's row may have already; NULL: the key has the tenant in it */
} tables[] = {{"instances", "run_id"}, {"quality", NULL}, {"apps", NULL}, {"asks", "id"}, {"ask_keys", NULL}};
enum { N_TABLES = sizeof tables / sizeof *tables };

static struct taking {
    struct streammgr *m;
    struct ctl_conn *conn;
    char *tenant;
    sqlite3 *db;
    struct event *ev;
    size_t table;
    int64_t at; /* rowid that is taken already */
    struct taking *next;
} * takings;

static int fail(const struct taking *t, const char *what, struct err *e)
{
    return err_set(e, sqlite3_errcode(t->db) == SQLITE_FULL ? -ENOSPC : -EIO, "cannot %s what came of %s for state/streams.db: %s",
                   what, t->tenant, db_why(t->db));
}

/* The first column of the only row; or negative. ?1 of it is the tenant. */
static int64_t answer(const struct taking *t, const char *sql, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int64_t v = 0;
    int r = sqlite3_prepare_v2(t->db, sql, -1, &s, NULL);
    if (r == SQLITE_OK && sqlite3_bind_parameter_count(s))
        r = sqlite3_bind_text(s, 1, t->tenant, -1, SQLITE_STATIC);
    if (r == SQLITE_OK && (r = sqlite3_step(s)) == SQLITE_ROW)
        v = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return r == SQLITE_ROW ? v : r == SQLITE_DONE ? 0 : fail(t, "read", e);
}

static int check_table(const struct taking *t, const struct table *k, struct err *e)
{
    AUTO_FREE char *newer = xasprintf("SELECT count(*) FROM pragma_table_info('%s', 'moved') WHERE name NOT IN(SELECT name FROM "
                                      "pragma_table_info('%s', 'main'))",
                                      k->name, k->name);
    AUTO_FREE char *foreign = xasprintf("SELECT count(*) FROM moved.%s WHERE tenant IS NOT ?1", k->name);
    AUTO_FREE char *taken =
        k->id ? xasprintf("SELECT count(*) FROM moved.%s x JOIN main.%s y USING(%s) WHERE y.tenant<>?1", k->name, k->name, k->id)
              : xstrdup("SELECT 0");
    int64_t n = answer(t, newer, e);
    if (n > 0)
        return err_set(e, ERR_VERSION, "its rows (%s) are of a newer version: upgrade this home first", k->name);
    if (n == 0 && (n = answer(t, foreign, e)) > 0)
        return err_set(e, ERR_REFUSED, "it has rows (%s) that are not tenant %s's", k->name, t->tenant);
    if (n == 0 && (n = answer(t, taken, e)) > 0)
        return err_set(e, ERR_REFUSED, "an id of its %s is another tenant's in this home", k->name);
    return (int)n;
}

static int check(const struct taking *t, struct err *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < N_TABLES; i++)
        r = check_table(t, &tables[i], e);
    const int64_t live = r < 0 ? 0 : answer(t, "SELECT count(*) FROM moved.instances WHERE state IS NOT 'ended'", e);
    return live > 0 ? err_set(e, ERR_REFUSED, "it has instances that have not ended") : live < 0 ? (int)live : r;
}

/* The columns that the rows there have. The caller frees. */
static char *columns(const struct taking *t)
{
    AUTO_FREE char *sql = xasprintf("SELECT group_concat(name) FROM pragma_table_info('%s', 'moved')", tables[t->table].name);
    sqlite3_stmt *s = NULL;
    char *v = NULL;
    if (sqlite3_prepare_v2(t->db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW && sqlite3_column_text(s, 0))
        v = xstrdup((const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    return v;
}

/* 1: there is more. */
static int take_part(struct taking *t, struct err *e)
{
    const char *name = tables[t->table].name;
    AUTO_FREE char *names = columns(t), *last = xasprintf("SELECT max(rowid) FROM moved.%s", name);
    const int64_t end = names ? answer(t, last, e) : 0;
    if (end < 0)
        return (int)end;
    if (t->at >= end) {
        t->at = 0;
        return ++t->table < N_TABLES;
    }
    AUTO_FREE char *sql =
        xasprintf("INSERT OR REPLACE INTO main.%s(%s) SELECT %s FROM moved.%s WHERE rowid>%lld AND rowid<=%lld AND tenant=?1", name,
                  names, names, name, (long long)t->at, (long long)(t->at + PART));
    t->at += PART;
    const int64_t r = answer(t, sql, e);
    return r < 0 ? (int)r : 1;
}

static void taking_free(struct taking *t)
{
    struct taking **at = &takings;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    if (t->ev)
        event_free(t->ev);
    sqlite3_close(t->db);
    free(t->tenant);
    free(t);
}

static void on_part(evutil_socket_t fd, short what, void *arg)
{
    struct taking *t = arg;
    struct err e = {0};
    (void)fd;
    (void)what;
    int r = take_part(t, &e);
    crash_at(CRASH_moving_book);
    if (r > 0) {
        timer_set(t->ev, 0);
        return;
    }
    if (r == 0)
        r = recover_tenant(t->m, t->tenant, &e);
    ctl_answer(t->conn, r < 0 ? &e : NULL);
    ctl_release(t->conn);
    taking_free(t);
}

static int open_both(struct taking *t, struct err *e)
{
    AUTO_FREE char *book = home_path(&t->m->home, "state/streams.db"),
                   *from = xasprintf("%s/" MOVES_DIR "/%s.book.db", t->m->home.path, t->tenant);
    sqlite3_stmt *s = NULL;
    int r = db_open(book, SQLITE_OPEN_READWRITE, &t->db);
    if (r == SQLITE_OK)
        r = sqlite3_busy_timeout(t->db, BUSY_MS);
    if (r == SQLITE_OK)
        r = sqlite3_exec(t->db, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
    if (r == SQLITE_OK)
        r = sqlite3_prepare_v2(t->db, "ATTACH ?1 AS moved", -1, &s, NULL);
    if (r == SQLITE_OK)
        r = sqlite3_bind_text(s, 1, from, -1, SQLITE_STATIC);
    if (r == SQLITE_OK)
        r = sqlite3_step(s) == SQLITE_DONE ? SQLITE_OK : SQLITE_ERROR;
    sqlite3_finalize(s);
    return r == SQLITE_OK ? 0 : fail(t, "open", e);
}

int moving_take_rows(struct streammgr *m, struct ctl_conn *c, const char *tenant, struct err *e)
{
    int r = conf_valid_id(tenant) ? tenant_facts_read(m, e) : err_set(e, ERR_USAGE, "the request names no tenant");
    const struct tenant_facts *f = r == 0 ? tenant_facts_of(m, tenant) : NULL;
    if (r < 0)
        return r;
    if (!f || !f->held)
        return err_set(e, ERR_REFUSED, "tenant %s is not on its way to this home", tenant);
    for (const struct taking *t = takings; t; t = t->next)
        if (!strcmp(t->tenant, tenant))
            return err_refuse(e, "busy", 1, "a step of the move of tenant %s is under way", tenant);
    struct taking *t = xcalloc(1, sizeof *t);
    *t = (struct taking){.m = m, .conn = c, .tenant = xstrdup(tenant), .next = takings};
    takings = t;
    r = open_both(t, e);
    if (r == 0)
        r = check(t, e);
    if (r < 0) {
        taking_free(t);
        return r;
    }
    t->ev = event_new(m->base, -1, 0, on_part, t);
    ctl_hold(c);
    timer_set(t->ev, 0);
    return 1;
}

void moving_stop(void)
{
    while (takings) {
        ctl_release(takings->conn);
        taking_free(takings);
    }
}
