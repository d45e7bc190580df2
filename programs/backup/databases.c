#include "databases.h"

#include "base/fd.h"
#include "base/mem.h"
#include "db/db.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { PAGES = 512, BUSY_MS = 10000 };

static int fail(const struct home *h, const char *path, sqlite3 *db, struct err *e)
{
    int r = sqlite3_extended_errcode(db) == SQLITE_IOERR_DATA || sqlite3_errcode(db) == SQLITE_CORRUPT ? ERR_FORMAT : -EIO;
    return err_set(e, r, "cannot copy %s/%s: %s%s", h->path, path, db_why(db),
                   r == ERR_FORMAT ? "; earlier points are as good as they were" : "");
}

static int failed(const struct database *d, struct err *e)
{
    return fail(d->home, d->path, d->db, e);
}

int database_begin(const struct home *h, const char *path, struct database *ret, struct err *e)
{
    AUTO_FREE char *source = home_path(h, path);
    struct stat st;
    *ret = (struct database){.home = h, .path = path};
    if (fstatat(h->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? -ENOENT : err_sys(e, -errno, "cannot read %s", source);
    if (db_open(source, SQLITE_OPEN_READWRITE, &ret->db) != SQLITE_OK || sqlite3_busy_timeout(ret->db, BUSY_MS) != SQLITE_OK ||
        sqlite3_exec(ret->db, "PRAGMA temp_store=MEMORY", NULL, NULL, NULL) != SQLITE_OK)
        return failed(ret, e);
    return database_again(ret, e);
}

int database_again(struct database *d, struct err *e)
{
    if (!sqlite3_get_autocommit(d->db) && sqlite3_exec(d->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        return failed(d, e);
    return sqlite3_exec(d->db, "BEGIN; SELECT count(*) FROM sqlite_master", NULL, NULL, NULL) == SQLITE_OK ? 0 : failed(d, e);
}

void database_end(struct database *d)
{
    sqlite3_close(d->db);
    d->db = NULL;
}

/* In the read transaction that has begun: else each commit of a writer would make it begin anew. */
static int copy_pages(sqlite3 *from, sqlite3 *to)
{
    int r;
    sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
    do
        r = b ? sqlite3_backup_step(b, PAGES) : SQLITE_ERROR;
    while (r == SQLITE_OK);
    int end = b ? sqlite3_backup_finish(b) : SQLITE_ERROR;
    return r == SQLITE_DONE ? end : r;
}

int database_copy(struct database *d, const char *to, struct err *e)
{
    sqlite3 *copy = NULL;
    unlink(to);
    AUTO_FD int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, -errno, "cannot write %s", to);
    int r = 0;
    if (db_open(to, SQLITE_OPEN_READWRITE, &copy) != SQLITE_OK ||
        sqlite3_exec(copy, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF", NULL, NULL, NULL) != SQLITE_OK)
        r = err_set(e, -EIO, "cannot write %s: %s", to, db_why(copy));
    if (r == 0) {
        int code = copy_pages(d->db, copy);
        if (code == SQLITE_FULL || (code & 0xff) == SQLITE_CANTOPEN)
            r = err_set(e, -ENOSPC, "cannot write %s: %s", to, sqlite3_errmsg(copy));
        else if (code != SQLITE_OK)
            r = fail(d->home, d->path, sqlite3_errcode(d->db) == SQLITE_OK ? copy : d->db, e);
    }
    sqlite3_close(copy);
    return r < 0 ? r : database_check(to, d->path, e);
}

int database_snapshot(const struct home *h, const char *path, const char *to, struct err *e)
{
    struct database d;
    int r = database_begin(h, path, &d, e);
    if (r == 0)
        r = database_copy(&d, to, e);
    database_end(&d);
    return r;
}

/* Whether the place where the copy lies is what fails, and not what is in it. */
static bool is_the_disks(sqlite3 *db)
{
    const int code = sqlite3_errcode(db);
    return (code == SQLITE_IOERR && sqlite3_extended_errcode(db) != SQLITE_IOERR_DATA) || code == SQLITE_CANTOPEN ||
           code == SQLITE_FULL || code == SQLITE_NOMEM;
}

int database_check(const char *path, const char *shown, struct err *e)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    AUTO_FREE char *text = NULL;
    int r = 0;
    if (db_open(path, SQLITE_OPEN_READWRITE, &db) == SQLITE_OK &&
        sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        text = xstrdup((const char *)sqlite3_column_text(s, 0));
    if (!text && is_the_disks(db))
        r = err_set(e, -EIO, "cannot read %s, a copy of %s: %s", path, shown,
                    sqlite3_errcode(db) == SQLITE_IOERR && sqlite3_system_errno(db) ? strerror(sqlite3_system_errno(db))
                                                                                    : db_why(db));
    else if (!text || strcmp(text, "ok") != 0)
        r = err_set(e, ERR_FORMAT, "%s is damaged: %s", shown, text ? text : db_why(db));
    sqlite3_finalize(s);
    sqlite3_close(db);
    return r;
}

int database_put(struct copying *k, const char *path, const char *copy, struct err *e)
{
    struct stat st;
    struct bytes b = {0};
    AUTO_FD int fd = open(copy, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstatat(k->home->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, -errno, "cannot read the copy of %s", path);
    int r = copy_bytes(k, fd, path, COPY_WHOLE, &b, e);
    b.st.st_mode = st.st_mode;
    b.st.st_uid = st.st_uid;
    b.st.st_gid = st.st_gid;
    if (r == 0)
        r = copy_add(k, path, &b, e);
    bytes_fini(&b);
    return r;
}
