#include "versions.h"
#include "db.h"

#include "base/fd.h"
#include "base/mem.h"
#include "segment/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { WAIT_MS = 2800 };

static const struct {
    const char *path, *sql;
    int64_t known;
} databases[] = {
    {"state/ledger.db", "SELECT value FROM meta WHERE key='schema_version'", VERSION_LEDGER},
    {"state/streams.db", "PRAGMA user_version", VERSION_STREAMS},
    {"state/accounts.db", "PRAGMA user_version", VERSION_ACCOUNTS},
};

int version_refused(const char *what, int64_t has, int64_t known, struct err *e)
{
    return err_set(e, ERR_VERSION,
                   "%s is of a newer version of mysimbdp (%lld; this one knows up to %lld), and nothing of it was changed; install "
                   "that version again, or restore a backup of before the upgrade",
                   what, (long long)has, (long long)known);
}

static int64_t ask(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s = NULL;
    int64_t version = -EIO;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        version = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return version;
}

int64_t version_of_db(sqlite3 *db)
{
    return ask(db, "PRAGMA user_version");
}

static int check_database(const struct home *h, size_t i, struct err *e)
{
    AUTO_FREE char *path = home_path(h, databases[i].path);
    sqlite3 *db = NULL;
    int64_t version = -EIO;
    if (access(path, F_OK) < 0)
        return 0;
    /* For writing too, since SQLite needs that for the files of a write-ahead log. */
    if (db_open(path, SQLITE_OPEN_READWRITE, &db) == SQLITE_OK && sqlite3_busy_timeout(db, WAIT_MS) == SQLITE_OK)
        version = ask(db, databases[i].sql);
    sqlite3_close(db);
    return version > databases[i].known ? version_refused(path, version, databases[i].known, e) : 0;
}

static int check_segment(const struct home *h, int dirfd, const char *name, struct err *e)
{
    unsigned char header[SEGMENT_HEADER];
    AUTO_FD int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || pread(fd, header, sizeof header, 0) != (ssize_t)sizeof header || !segment_is_newer(header))
        return 0;
    AUTO_FREE char *path = xasprintf("%s/state/broker/%s", h->path, name);
    return version_refused(path, header[SEGMENT_VERSION_AT] - '0', SEGMENT_MAGIC[SEGMENT_VERSION_AT] - '0', e);
}

int versions_check(const struct home *h, struct err *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof databases / sizeof *databases; i++)
        r = check_database(h, i, e);
    DIR *d = r == 0 ? fd_open_dir(h->dirfd, "state/broker") : NULL;
    for (struct dirent *ent; d && r == 0 && (ent = readdir(d));) {
        const char *dot = strrchr(ent->d_name, '.');
        if (dot && !strcmp(dot, ".seg"))
            r = check_segment(h, dirfd(d), ent->d_name, e);
    }
    if (d)
        closedir(d);
    return r;
}
