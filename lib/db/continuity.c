#include "continuity.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BOOT_ID = CLK_BOOT_SIZE - 1, LINE_BYTES = ID_SIZE - 1 + 1 + 20 + 1, BOOT_LINE_BYTES = BOOT_ID + 1 + 20 + 1 };

static const char NO_BOOT[] = "000000000000000000000000000000000000"; /* also in marks of versions that could not see it */

struct continuity_of {
    const char *file, *mark, *name, *harm;
    bool synced; /* the database syncs each commit */
};
const struct continuity_of continuity_ledger = {"state/ledger.db", "state/continuity", "ledger",
                                                "Files it does not know would be stored again", true};
const struct continuity_of continuity_book = {
    "state/streams.db", "state/streams.mark", "book of instances (state/streams.db)",
    "Apps that were stopped by command would start again, and instances that run would not be known", false};

struct mark {
    char id[ID_SIZE], boot[BOOT_ID + 1];
    long long commits, synced;
};

/* False: there is no mark, or none that can be read; then nothing is known of what the home had. */
static bool read_mark(int fd, struct mark *ret)
{
    char line[LINE_BYTES + 1] = "", boot[BOOT_LINE_BYTES + 1] = "";
    *ret = (struct mark){0};
    if (fd < 0 || pread(fd, line, LINE_BYTES, 0) != LINE_BYTES || line[LINE_BYTES - 1] != '\n' ||
        sscanf(line, "%26s %20lld", ret->id, &ret->commits) != 2 || !home_valid_id(ret->id))
        return false;
    if (pread(fd, boot, BOOT_LINE_BYTES, LINE_BYTES) != BOOT_LINE_BYTES ||
        sscanf(boot, "%36s %20lld", ret->boot, &ret->synced) != 2)
        ret->synced = 0;
    return true;
}

static void write_mark(const struct continuity *c, bool settled)
{
    char text[LINE_BYTES + BOOT_LINE_BYTES + 1];
    int n = snprintf(text, sizeof text, "%s %020lld\n", c->id, (long long)c->commits);
    if (settled)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s %020lld\n", *clk_boot_id() ? clk_boot_id() : NO_BOOT,
                      (long long)c->commits);
    if (pwrite(c->fd, text, (size_t)n, 0) != n)
        log_warn("continuity", NULL, NULL, "cannot write %s: %s", c->of->mark, strerror(errno));
}

/* Makes all that is committed durable. The database file is synced by SQLite; what is not in it yet is in the write-ahead log,
 * which is synced here. On the log SQLite holds no locks that closing it here could drop (POSIX locks go with any close of their
 * file). */
static void settle(const struct continuity *c)
{
    AUTO_FREE char *wal = xasprintf("%s-wal", c->of->file);
    AUTO_FD int fd = c->of->synced ? -1 : openat(c->dirfd, wal, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fdatasync(fd) == 0)
        write_mark(c, !c->of->synced);
}

static void read_database(sqlite3 *db, char id[ID_SIZE], int64_t *commits)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(db, "SELECT id, commits FROM continuity", -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(s, 0);
        snprintf(id, ID_SIZE, "%s", text ? text : "");
        *commits = sqlite3_column_int64(s, 1);
    }
    sqlite3_finalize(s);
}

static int give_id(struct continuity *c, sqlite3 *db, struct err *e)
{
    char sql[200];
    home_new_id(c->id);
    snprintf(sql, sizeof sql, "BEGIN IMMEDIATE; DELETE FROM continuity; INSERT INTO continuity VALUES('%s',0); COMMIT;", c->id);
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : err_set(e, -EIO, "%s", db_why(db));
}

static int gone(const struct continuity_of *of, struct err *e)
{
    return err_set(e, ERR_REFUSED, "the %s this home had is gone", of->name);
}

static int compare(const struct continuity_of *of, const char *id, int64_t commits, const struct mark *had, struct err *e)
{
    if (!*id)
        return gone(of, e);
    if (strcmp(id, had->id) != 0)
        return err_set(e, ERR_REFUSED, "the %s is another one than this home had", of->name);
    /* Without knowing that the host was not started anew: as after a power cut. */
    long long must = of->synced || !strcmp(clk_boot_id(), had->boot) ? had->commits : had->synced;
    if (commits >= must)
        return 0;
    return err_set(e, ERR_REFUSED, "the %s is older than what this home had, or lost its end: %lld of %lld commits are missing",
                   of->name, must - (long long)commits, must);
}

static int is_there(const struct continuity_of *of, const struct home *h, struct err *e)
{
    struct stat st;
    struct mark had;
    AUTO_FD int fd = openat(h->dirfd, of->mark, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    bool there = fstatat(h->dirfd, of->file, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0;
    return !there && read_mark(fd, &had) ? gone(of, e) : 0;
}

static int say_remedy(const struct continuity_of *of, const struct home *h, int r, struct err *e)
{
    if (r != ERR_REFUSED)
        return r;
    char why[sizeof e->msg];
    snprintf(why, sizeof why, "%s", e->msg);
    return err_set(e, r,
                   "%.200s. %s, and nothing was started or changed: put %s/%s back with its -wal file; or `mysimbdp verify "
                   "--accept` to go on with what there is, which says what it lacks",
                   why, of->harm, h->path, of->file);
}

int continuity_look(const struct continuity_of *of, const struct home *h, struct err *e)
{
    return say_remedy(of, h, is_there(of, h, e), e);
}

int continuity_init(struct continuity *c, const struct continuity_of *of, const struct home *h, sqlite3 *db, struct err *e)
{
    struct mark had;
    *c = (struct continuity){
        .of = of, .dirfd = h->dirfd, .fd = openat(h->dirfd, of->mark, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600)};
    if (c->fd < 0)
        return err_sys(e, -errno, "cannot open %s/%s", h->path, of->mark);
    read_database(db, c->id, &c->commits);
    bool known = read_mark(c->fd, &had);
    if (!known && *c->id)
        log_warn("continuity", NULL, NULL,
                 "%s is gone or damaged, and is made again: whether the %s is the one that this home had last cannot be told; "
                 "`mysimbdp verify` compares what can be compared",
                 of->mark, of->name);
    int r = known ? say_remedy(of, h, compare(of, c->id, c->commits, &had, e), e) : 0;
    if (r < 0) {
        close(fd_take(&c->fd)); /* without counting: the mark stays as it was */
        return r;
    }
    if (!*c->id)
        r = give_id(c, db, e);
    if (r == 0 && sqlite3_prepare_v2(db, "UPDATE continuity SET commits=commits+1", -1, &c->bump, NULL) != SQLITE_OK)
        r = err_set(e, -EIO, "%s", db_why(db));
    if (r == 0)
        settle(c);
    return r;
}

void continuity_fini(struct continuity *c)
{
    if (c->bump)
        settle(c);
    sqlite3_finalize(c->bump);
    c->bump = NULL;
    if (c->fd >= 0)
        close(fd_take(&c->fd));
}

int continuity_count(struct continuity *c)
{
    int r = sqlite3_step(c->bump);
    sqlite3_reset(c->bump);
    return r == SQLITE_DONE ? SQLITE_OK : r;
}

void continuity_committed(struct continuity *c)
{
    c->commits++;
    write_mark(c, false);
}

int continuity_check(const struct continuity_of *of, const struct home *h, sqlite3 *db, struct err *e)
{
    struct mark had;
    char id[ID_SIZE] = "";
    int64_t commits = 0;
    AUTO_FD int fd = openat(h->dirfd, of->mark, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int r = is_there(of, h, e);
    /* The mark is read first, so that it is never ahead of the database that is read after it. */
    if (r < 0 || !db || !read_mark(fd, &had))
        return r;
    read_database(db, id, &commits);
    return compare(of, id, commits, &had, e);
}

int continuity_forget(const struct continuity_of *of, const struct home *h, struct err *e)
{
    if (unlinkat(h->dirfd, of->mark, 0) < 0 && errno != ENOENT)
        return err_sys(e, -errno, "cannot remove %s/%s", h->path, of->mark);
    return 0;
}

const char *continuity_mark_path(const struct continuity_of *of)
{
    return of->mark;
}

const char *continuity_mark_text(sqlite3 *copy, char out[CONTINUITY_MARK_SIZE])
{
    char id[ID_SIZE] = "";
    int64_t commits = 0;
    read_database(copy, id, &commits);
    snprintf(out, CONTINUITY_MARK_SIZE, *id ? "%s %020lld\n" : "%s", id, (long long)commits);
    return out;
}
