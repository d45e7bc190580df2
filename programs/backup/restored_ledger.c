#include "restore_parts.h"

#include "base/fd.h"
#include "base/mem.h"
#include "db/db.h"
#include "db/tenants.h"
#include "host/move_record.h"
#include "host/uid_block.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUSY_MS = 10000 };

int move_tenants(struct restoring *r, struct err *e)
{
    const long long from = r->ret->uid_base_was, to = r->ret->uid_base;
    AUTO_FREE char *path = xasprintf("%s/state/ledger.db", r->path);
    sqlite3 *db = NULL;
    if (from < 0 || to == from || access(path, F_OK) < 0)
        return 0;
    /* In two steps, since no two tenants may have the same uid at any moment. */
    AUTO_FREE char *sql = xasprintf("BEGIN IMMEDIATE; UPDATE tenants SET uid=-(uid-%lld+%lld) WHERE uid>=%lld AND uid<%lld;"
                                    "UPDATE tenants SET uid=-uid WHERE uid<0; COMMIT; PRAGMA wal_checkpoint(TRUNCATE)",
                                    from, to, from, from + UID_BLOCK_SIZE);
    bool ok = db_open(path, SQLITE_OPEN_READWRITE, &db) == SQLITE_OK && sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
    if (!ok)
        err_set(e, -EIO, "cannot give the tenants of %s their uids: %s", path, db_why(db));
    sqlite3_close(db);
    return ok ? 0 : -EIO;
}

/* The home that the backup is of, beside the one that was made of it. NULL: it is not there, or cannot be read. */
static sqlite3 *open_beside(const struct restoring *r, const char *first, const char *second)
{
    struct stat a, b;
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    if (*r->point->home != '/' || stat(first, &a) < 0 || stat(second, &b) < 0 || (a.st_ino == b.st_ino && a.st_dev == b.st_dev))
        return NULL;
    const bool ok = db_open(first, SQLITE_OPEN_READWRITE, &db) == SQLITE_OK && sqlite3_busy_timeout(db, BUSY_MS) == SQLITE_OK &&
                    sqlite3_prepare_v2(db, "ATTACH ?1 AS had", -1, &s, NULL) == SQLITE_OK &&
                    sqlite3_bind_text(s, 1, second, -1, SQLITE_STATIC) == SQLITE_OK && sqlite3_step(s) == SQLITE_DONE;
    sqlite3_finalize(s);
    if (ok)
        return db;
    sqlite3_close(db);
    return NULL;
}

static int write_moves(const struct restoring *r, sqlite3 *db, struct err *e)
{
    const struct home h = {.path = r->path, .dirfd = r->dirfd};
    sqlite3_stmt *s = NULL;
    int n = sqlite3_prepare_v2(db, "SELECT t.id, m.value FROM had.meta m JOIN main.tenants t ON m.key='moved:'||t.id", -1, &s,
                               NULL) == SQLITE_OK
                ? 0
                : err_set(e, -EIO, "cannot read which tenants were moved: %s", db_why(db));
    while (n == 0 && sqlite3_step(s) == SQLITE_ROW) {
        struct move_record m = {.source = true, .phase = MOVE_done};
        home_new_id(m.id);
        m.tenant = xstrdup((const char *)sqlite3_column_text(s, 0));
        m.other = xstrdup((const char *)sqlite3_column_text(s, 1));
        n = move_record_write(&h, &m, e);
        move_record_fini(&m);
    }
    sqlite3_finalize(s);
    return n;
}

/* A tenant that went to another home after the point is not to be had twice. Whether its documents are shared is not known, so that
 * they are not this home's to delete. */
int keep_moved(struct restoring *r, struct err *e)
{
    static const char sql[] = "UPDATE main.tenants SET suspended=suspended|14 WHERE 'moved:'||id IN(SELECT key FROM had.meta);"
                              "INSERT OR REPLACE INTO main.meta SELECT key, value FROM had.meta WHERE key LIKE 'moved:%';";
    AUTO_FREE char *was = xasprintf("%s/state/ledger.db", r->point->home), *is = xasprintf("%s/state/ledger.db", r->path);
    sqlite3 *db = open_beside(r, is, was);
    _Static_assert((TENANT_HELD | TENANT_MOVED | TENANT_SHARED) == 14, "they are in the text above");
    if (!db)
        return 0;
    int n = sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK &&
                    sqlite3_exec(db, "PRAGMA main.wal_checkpoint(TRUNCATE)", NULL, NULL, NULL) == SQLITE_OK
                ? 0
                : err_set(e, -EIO, "cannot keep which tenants were moved away: %s", db_why(db));
    if (n == 0)
        n = write_moves(r, db, e);
    sqlite3_close(db);
    return n;
}

static int64_t count(sqlite3 *db, const char *where, int64_t at_ms)
{
    AUTO_FREE char *sql =
        xasprintf("SELECT count(*) FROM files WHERE received_at>=?1 AND file_id NOT IN(SELECT file_id FROM had.files)%s", where);
    sqlite3_stmt *s = NULL;
    int64_t n = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_bind_int64(s, 1, at_ms) == SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW)
        n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return n;
}

void look_later(struct restoring *r)
{
    AUTO_FREE char *was = xasprintf("%s/state/ledger.db", r->point->home), *is = xasprintf("%s/state/ledger.db", r->path);
    sqlite3 *db = open_beside(r, was, is);
    if (!db)
        return;
    r->ret->n_later = count(db, "", r->point->at_ms);
    r->ret->n_later_ingested = count(db, " AND state='ingested'", r->point->at_ms);
    sqlite3_close(db);
}
