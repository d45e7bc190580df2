#include "ledger_view.h"
#include "words.h"

#include "base/mem.h"
#include "db/db.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* Instances of stream apps are in streammgr's book (programs/streammgr/instances_db.h). A home in which it never ran has none. */
static int attach_instances(sqlite3 *db, const struct home *h)
{
    AUTO_FREE char *path = home_path(h, "state/streams.db");
    sqlite3_stmt *s = NULL;
    struct stat st;
    if (stat(path, &st) < 0 || !st.st_size) /* a book that was lost is for `verify` to tell */
        return sqlite3_exec(
            db,
            "ATTACH ':memory:' AS streams; CREATE TABLE streams.instances(run_id TEXT, tenant TEXT, app TEXT, attempt INTEGER, "
            "state TEXT, outcome TEXT, exit_code INTEGER, signal INTEGER, lim TEXT, error TEXT, node TEXT, forced INTEGER, "
            "started_at INTEGER, ended_at INTEGER, wall_s REAL, cpu_s REAL, max_rss INTEGER, network_refused INTEGER, pruned "
            "INTEGER)",
            NULL, NULL, NULL);
    int r = sqlite3_prepare_v2(db, "ATTACH ?1 AS streams", -1, &s, NULL);
    if (r == SQLITE_OK)
        r = sqlite3_bind_text(s, 1, path, -1, SQLITE_STATIC);
    if (r == SQLITE_OK)
        r = sqlite3_step(s) == SQLITE_DONE ? SQLITE_OK : SQLITE_ERROR;
    sqlite3_finalize(s);
    return r;
}

int ledger_view_open(const struct home *h, int wait_ms, sqlite3 **ret, struct err *e)
{
    AUTO_FREE char *path = home_path(h, "state/ledger.db");
    const char *file = "ledger.db";
    sqlite3 *db = NULL;
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return err_set(e, -ENOENT, "%s is not there: the home never ran", path);
    /* Opened for writing too, since SQLite needs that for the files of a write-ahead log. */
    int r = db_open(path, SQLITE_OPEN_READWRITE, &db);
    if (r == SQLITE_OK)
        r = sqlite3_busy_timeout(db, wait_ms);
    if (r == SQLITE_OK)
        r = words_register(db);
    if (r == SQLITE_OK)
        r = sqlite3_exec(db, "SELECT count(*) FROM meta", NULL, NULL, NULL);
    if (r == SQLITE_OK) {
        file = "streams.db";
        r = attach_instances(db, h);
    }
    if (r == SQLITE_OK)
        r = sqlite3_exec(db, "PRAGMA query_only=1; SELECT 1 FROM streams.instances LIMIT 1", NULL, NULL, NULL);
    if (r != SQLITE_OK) {
        err_set(e, ERR_FORMAT, "cannot read %s/state/%s: %s", h->path, file, db_why(db));
        sqlite3_close(db);
        return ERR_FORMAT;
    }
    *ret = db;
    return 0;
}
