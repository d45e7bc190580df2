#include "continuity.h"
#include "common/db.h"
#include "common/fd.h"
#include "common/log.h"
#include "ledger_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_BYTES = ID_SIZE - 1 + 1 + 20 + 1 };

static void write_line(const struct continuity *c)
{
    char line[LINE_BYTES + 1];
    snprintf(line, sizeof line, "%s %020lld\n", c->id, (long long)c->commits);
    if (pwrite(c->fd, line, LINE_BYTES, 0) != LINE_BYTES)
        log_warn("continuity", NULL, NULL, "cannot write " HOME_CONTINUITY ": %s", strerror(errno));
}

/* False: there is none, or it is none; then nothing is known of what the home had. */
static bool read_line(int fd, struct continuity *ret)
{
    char line[LINE_BYTES + 1] = "";
    long long n;
    if (pread(fd, line, LINE_BYTES, 0) != LINE_BYTES || line[LINE_BYTES - 1] != '\n' ||
        sscanf(line, "%26s %20lld", ret->id, &n) != 2 || !home_valid_id(ret->id))
        return false;
    ret->commits = n;
    return true;
}

static void read_ledger(sqlite3 *db, struct continuity *ret)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(db, "SELECT id, commits FROM continuity", -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW) {
        ledger_column_id(s, 0, ret->id, sizeof ret->id);
        ret->commits = sqlite3_column_int64(s, 1);
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

static int refuse(const struct home *h, const char *why, struct err *e)
{
    return err_set(
        e, ERR_REFUSED,
        "%s. Files it does not know would be stored again, and nothing was started or changed: put %s/state/ledger.db back with "
        "its -wal file; or `mysimbdp verify --accept` to go on with what there is, which says what it lacks",
        why, h->path);
}

static int compare(const struct continuity *c, const struct continuity *had, const struct home *h, struct err *e)
{
    char why[200];
    if (!*c->id || strcmp(c->id, had->id) != 0)
        return refuse(h, *c->id ? "the ledger is another one than this home had" : "the ledger this home had is gone", e);
    if (c->commits >= had->commits)
        return 0;
    snprintf(why, sizeof why, "the ledger is older than what this home had, or lost its end: %lld of %lld commits are missing",
             (long long)(had->commits - c->commits), (long long)had->commits);
    return refuse(h, why, e);
}

int continuity_look(const struct home *h, struct err *e)
{
    struct stat st;
    struct continuity had;
    AUTO_FD int fd = openat(h->dirfd, HOME_CONTINUITY, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    bool there = fstatat(h->dirfd, "state/ledger.db", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0;
    return fd >= 0 && !there && read_line(fd, &had) ? refuse(h, "the ledger this home had is gone", e) : 0;
}

int continuity_init(struct continuity *c, const struct home *h, sqlite3 *db, struct err *e)
{
    struct continuity had = {.fd = -1};
    *c = (struct continuity){.fd = openat(h->dirfd, HOME_CONTINUITY, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600)};
    if (c->fd < 0)
        return err_sys(e, -errno, "cannot open %s/" HOME_CONTINUITY, h->path);
    read_ledger(db, c);
    bool known = read_line(c->fd, &had);
    if (!known && *c->id)
        log_warn("continuity", NULL, NULL,
                 HOME_CONTINUITY
                 " is gone or damaged, and is made again: whether the ledger is the one that this home had last cannot "
                 "be told; `mysimbdp verify` compares it with the directories");
    int r = known ? compare(c, &had, h, e) : 0;
    if (r == 0 && !*c->id)
        r = give_id(c, db, e);
    if (r == 0 && sqlite3_prepare_v2(db, "UPDATE continuity SET commits=commits+1", -1, &c->bump, NULL) != SQLITE_OK)
        r = err_set(e, -EIO, "%s", db_why(db));
    if (r == 0)
        write_line(c);
    return r;
}

void continuity_fini(struct continuity *c)
{
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
    write_line(c);
}
