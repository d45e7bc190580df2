#include "tenants.h"
#include "base/mem.h"
#include "db.h"

#include <errno.h>
#include <sys/stat.h>

enum { BUSY_MS = 2000 };

/* At the first start of this version the ledger may still be as version 1 had it, which could not purge: batchmgr migrates it. */
static const char *sql_of(sqlite3 *db)
{
    return sqlite3_table_column_metadata(db, NULL, "tenants", "purging", NULL, NULL, NULL, NULL, NULL) == SQLITE_OK
               ? "SELECT id, uid, suspended OR purging = 1, purging = 2, suspended FROM tenants"
               : "SELECT id, uid, suspended, 0, suspended FROM tenants";
}

int tenant_states(const struct home *h, struct tenant_state **ret, size_t *ret_n, struct err *e)
{
    AUTO_FREE char *path = home_path(h, "state/ledger.db");
    struct stat st;
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    *ret = NULL;
    *ret_n = 0;
    if (stat(path, &st) < 0 || st.st_size == 0)
        return 0;
    /* Opened for writing too, since SQLite needs that for the files of a write-ahead log. Nothing is written. */
    int r = db_open(path, SQLITE_OPEN_READWRITE, &db);
    if (r == SQLITE_OK)
        r = sqlite3_busy_timeout(db, BUSY_MS);
    if (r == SQLITE_OK)
        r = sqlite3_prepare_v2(db, sql_of(db), -1, &s, NULL);
    while (r == SQLITE_OK || r == SQLITE_ROW) {
        r = sqlite3_step(s);
        if (r != SQLITE_ROW)
            break;
        *ret = xgrow(*ret, *ret_n, sizeof **ret);
        const int bits = sqlite3_column_int(s, 4);
        (*ret)[(*ret_n)++] = (struct tenant_state){.id = xstrdup((const char *)sqlite3_column_text(s, 0)),
                                                   .uid = sqlite3_column_int64(s, 1),
                                                   .suspended = sqlite3_column_int(s, 2) != 0,
                                                   .removed = sqlite3_column_int(s, 3) != 0,
                                                   .held = (bits & (TENANT_HELD | TENANT_MOVED)) != 0,
                                                   .moved = (bits & TENANT_MOVED) != 0};
    }
    sqlite3_finalize(s);
    if (r != SQLITE_DONE) {
        err_set(e, -EIO, "cannot read the tenants from %s: %s", path, db_why(db));
        tenant_states_free(*ret, *ret_n);
        *ret = NULL;
        *ret_n = 0;
    }
    sqlite3_close(db);
    return r == SQLITE_DONE ? 0 : -EIO;
}

void tenant_states_free(struct tenant_state *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(v[i].id);
    free(v);
}
