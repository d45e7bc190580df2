#include "db.h"
#include "base/fd.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

/* https://www.sqlite.org/fileformat.html: the database header */
enum { HEADER_BYTES = 100, AT_PAGE_SIZE = 16, AT_RESERVED = 20, SUM_BYTES = 4, MIN_PAGE = 512, MAX_PAGE = 65536 };
static const char magic[16] = "SQLite format 3";

struct file { /* of a database file; SQLite's own file of the default VFS lies behind it */
    sqlite3_file base;
    const char *path;    /* SQLite's name of the file, valid while it is open */
    unsigned char *page; /* room for a copy of a page with its checksum, which is what is written */
    int page_size;       /* 0: not known yet */
    bool checked;
};

static sqlite3_vfs *below, vfs;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_bool said;

static sqlite3_file *real(sqlite3_file *f)
{
    return (sqlite3_file *)((struct file *)f + 1);
}

static uint32_t sum(const unsigned char *page, int size, sqlite3_int64 offset)
{
    unsigned char number[4];
    le_set_u32(number, (uint32_t)(offset / size) + 1);
    uint32_t s = (uint32_t)crc32(crc32(0, number, sizeof number), page, (uInt)(size - SUM_BYTES));
    return s ? s : 1;
}

static bool is_page(const struct file *f, int n, sqlite3_int64 offset)
{
    return f->checked && n == f->page_size && offset % n == 0;
}

static bool agrees(const unsigned char *page, int n, sqlite3_int64 offset)
{
    uint32_t s = le_u32(page + n - SUM_BYTES);
    return !s || s == sum(page, n, offset);
}

/* Learns from the header of page 1 how large pages are and whether they have checksums. That page has a checksum, too. */
static bool note_header(struct file *f, const unsigned char *p, int n)
{
    if (n < HEADER_BYTES || memcmp(p, magic, sizeof magic) != 0)
        return true;
    int size = p[AT_PAGE_SIZE] << 8 | p[AT_PAGE_SIZE + 1];
    f->page_size = size == 1 ? MAX_PAGE : size;
    f->checked = p[AT_RESERVED] == SUM_BYTES && f->page_size >= MIN_PAGE;
    if (f->checked || n != f->page_size || p[AT_RESERVED])
        return f->checked || !p[AT_RESERVED];
    unsigned char *as_it_was = xmalloc((size_t)n);
    memcpy(as_it_was, p, (size_t)n);
    as_it_was[AT_RESERVED] = SUM_BYTES;
    bool flipped = le_u32(p + n - SUM_BYTES) && agrees(as_it_was, n, 0);
    free(as_it_was);
    return !flipped;
}

static int damaged(const struct file *f, int n, sqlite3_int64 offset)
{
    if (!atomic_exchange(&said, true))
        log_error("damaged", NULL, NULL, "page %lld of %s is damaged: its checksum differs", (long long)(n ? offset / n : 0) + 1,
                  f->path);
    return SQLITE_IOERR_DATA;
}

/* ---- a file's methods ---- */

static int x_close(sqlite3_file *f)
{
    free(((struct file *)f)->page);
    return real(f)->pMethods->xClose(real(f));
}

static int x_read(sqlite3_file *sf, void *p, int n, sqlite3_int64 offset)
{
    struct file *f = (struct file *)sf;
    int r = real(sf)->pMethods->xRead(real(sf), p, n, offset);
    if (r != SQLITE_OK)
        return r;
    if (offset == 0 && !note_header(f, p, n))
        return damaged(f, n, offset);
    if (!is_page(f, n, offset))
        return SQLITE_OK;
    if (!agrees(p, n, offset))
        return damaged(f, n, offset);
    le_set_u32((unsigned char *)p + n - SUM_BYTES, 0); /* a page on its way to the log has no checksum, rather than an old one */
    return SQLITE_OK;
}

static int x_write(sqlite3_file *sf, const void *p, int n, sqlite3_int64 offset)
{
    struct file *f = (struct file *)sf;
    if (offset == 0)
        note_header(f, p, n);
    if (!is_page(f, n, offset))
        return real(sf)->pMethods->xWrite(real(sf), p, n, offset);
    if (!f->page)
        f->page = xmalloc(MAX_PAGE);
    memcpy(f->page, p, (size_t)n);
    le_set_u32(f->page + n - SUM_BYTES, sum(f->page, n, offset));
    return real(sf)->pMethods->xWrite(real(sf), f->page, n, offset);
}

static int x_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return real(f)->pMethods->xTruncate(real(f), size);
}

static int x_sync(sqlite3_file *f, int flags)
{
    return real(f)->pMethods->xSync(real(f), flags);
}

static int x_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return real(f)->pMethods->xFileSize(real(f), size);
}

static int x_lock(sqlite3_file *f, int level)
{
    return real(f)->pMethods->xLock(real(f), level);
}

static int x_unlock(sqlite3_file *f, int level)
{
    return real(f)->pMethods->xUnlock(real(f), level);
}

static int x_reserved(sqlite3_file *f, int *out)
{
    return real(f)->pMethods->xCheckReservedLock(real(f), out);
}

static int x_control(sqlite3_file *f, int op, void *arg)
{
    return real(f)->pMethods->xFileControl(real(f), op, arg);
}

static int x_sector(sqlite3_file *f)
{
    return real(f)->pMethods->xSectorSize(real(f));
}

static int x_traits(sqlite3_file *f)
{
    return real(f)->pMethods->xDeviceCharacteristics(real(f));
}

static int x_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **p)
{
    return real(f)->pMethods->xShmMap(real(f), page, size, extend, p);
}

static int x_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return real(f)->pMethods->xShmLock(real(f), offset, n, flags);
}

static void x_shm_barrier(sqlite3_file *f)
{
    real(f)->pMethods->xShmBarrier(real(f));
}

static int x_shm_unmap(sqlite3_file *f, int delete)
{
    return real(f)->pMethods->xShmUnmap(real(f), delete);
}

/* Version 2 of the methods has no xFetch: so no page is memory-mapped and read without passing here. */
static const sqlite3_io_methods methods = {
    2,         x_close,  x_read,   x_write,   x_truncate, x_sync,        x_size,      x_lock, x_unlock, x_reserved,
    x_control, x_sector, x_traits, x_shm_map, x_shm_lock, x_shm_barrier, x_shm_unmap, NULL,   NULL,
};

/* Only database files get checksums here: logs and journals have SQLite's own, or none that matter. */
static int x_open(sqlite3_vfs *v, const char *path, sqlite3_file *sf, int flags, int *out)
{
    (void)v;
    if (!(flags & SQLITE_OPEN_MAIN_DB))
        return below->xOpen(below, path, sf, flags, out);
    struct file *f = (struct file *)sf;
    *f = (struct file){.path = path};
    int r = below->xOpen(below, path, real(sf), flags, out);
    if (!real(sf)->pMethods)
        return r; /* there is nothing to close */
    f->base.pMethods = &methods;
    return r;
}

static void make_vfs(void)
{
    below = sqlite3_vfs_find(NULL);
    if (!below)
        return;
    vfs = *below;
    vfs.pNext = NULL;
    vfs.zName = "simbdp";
    vfs.szOsFile = (int)sizeof(struct file) + below->szOsFile;
    vfs.xOpen = x_open;
    sqlite3_vfs_register(&vfs, 0);
}

/* ---- */

int db_open(const char *path, int flags, sqlite3 **ret)
{
    int bytes = SUM_BYTES;
    pthread_once(&once, make_vfs);
    int r = sqlite3_open_v2(path, ret, flags, "simbdp");
    if (r == SQLITE_OK)
        sqlite3_file_control(*ret, "main", SQLITE_FCNTL_RESERVE_BYTES, &bytes); /* in a database that has no checksums yet */
    return r;
}

const char *db_why(sqlite3 *db)
{
    if (db && sqlite3_extended_errcode(db) == SQLITE_IOERR_DATA)
        return "a page of it is damaged: the checksum differs";
    return db ? sqlite3_errmsg(db) : "out of memory";
}

static int fail(sqlite3 *db, struct err *e)
{
    return err_set(e, sqlite3_extended_errcode(db) == SQLITE_IOERR_DATA ? ERR_FORMAT : -EIO, "%s", db_why(db));
}

static struct file *file_of(sqlite3 *db)
{
    struct file *f = NULL;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f);
    return f && f->base.pMethods == &methods ? f : NULL;
}

/* A page that seems damaged is read once more, since somebody may just have been writing it. */
static int read_page(struct file *f, unsigned char *page, sqlite3_int64 at)
{
    for (int i = 0; i < 3; i++)
        if (real(&f->base)->pMethods->xRead(real(&f->base), page, f->page_size, at) == SQLITE_OK && agrees(page, f->page_size, at))
            return SQLITE_OK;
    return x_read(&f->base, page, f->page_size, at);
}

/* Checks all pages of the database file. */
static int read_all(sqlite3 *db, struct file *f, struct err *e)
{
    sqlite3_int64 size = 0;
    int r = x_size(&f->base, &size);
    unsigned char *page = xmalloc(MAX_PAGE);
    for (sqlite3_int64 at = 0; r == SQLITE_OK && f->checked && at + f->page_size <= size; at += f->page_size) {
        r = read_page(f, page, at);
        if (r == SQLITE_IOERR_DATA)
            err_set(e, ERR_FORMAT, "its page %lld is damaged: the checksum differs", (long long)(at / f->page_size) + 1);
    }
    free(page);
    return r == SQLITE_OK ? 0 : r == SQLITE_IOERR_DATA ? ERR_FORMAT : fail(db, e);
}

int db_check(sqlite3 *db, struct err *e)
{
    sqlite3_stmt *s = NULL;
    bool alone = false;
    int r = sqlite3_exec(db, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL);
    if (r == SQLITE_OK)
        r = sqlite3_prepare_v2(db, "PRAGMA wal_checkpoint(TRUNCATE)", -1, &s, NULL);
    if (r == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        alone = sqlite3_column_int(s, 0) == 0;
    sqlite3_finalize(s);
    struct file *f = file_of(db);
    if (r != SQLITE_OK)
        return fail(db, e);
    return alone && f ? read_all(db, f, e) : 0;
}

int db_own(sqlite3 *db, struct err *e)
{
    int r = sqlite3_exec(db, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL);
    const struct file *f = file_of(db);
    if (r != SQLITE_OK)
        return fail(db, e);
    if (f && f->page_size && !f->checked &&
        (sqlite3_exec(db, "PRAGMA journal_mode=DELETE; VACUUM;", NULL, NULL, NULL) != SQLITE_OK || !f->checked))
        log_warn("db", NULL, NULL, "%s has no checksums, and cannot get them now: %s", f->path, sqlite3_errmsg(db));
    return db_check(db, e);
}

/* Checkpoints the log by SQLite alone, whose VFS does not check. */
static int bring_in_log(const char *path)
{
    sqlite3 *db = NULL;
    int r = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    if (r == SQLITE_OK)
        r = sqlite3_exec(db, "SELECT count(*) FROM sqlite_master; PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL);
    sqlite3_close(db);
    return r;
}

int64_t db_accept(const char *path, struct err *e)
{
    static const unsigned char none[SUM_BYTES];
    struct file f = {.path = path};
    int64_t n = 0;
    ssize_t got;
    bring_in_log(path);
    AUTO_FD int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    AUTO_FREE unsigned char *page = xmalloc(MAX_PAGE);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(e, -errno, "cannot open %s", path);
    if (pread(fd, page, HEADER_BYTES, 0) == HEADER_BYTES)
        note_header(&f, page, HEADER_BYTES);
    for (off_t at = 0; f.checked && (got = pread(fd, page, (size_t)f.page_size, at)) == f.page_size; at += got)
        if (!agrees(page, f.page_size, at)) {
            n++;
            if (pwrite(fd, none, sizeof none, at + got - SUM_BYTES) != SUM_BYTES)
                return err_sys(e, -errno, "cannot write to %s", path);
        }
    return fsync(fd) < 0 ? err_sys(e, -errno, "cannot write to %s", path) : n;
}
