/* The files of the audit log. logs/audit.jsonl is the one that is written. When it is long, it gets a second name, with the number
 * of its last record; a new one with its first record, audit_begin, is made durable beside it and put in its place. So the log is
 * always there, and who has the lock of the old one finds out that it is another file by now (audit.c).
 *
 * Killed between the two, the log has both names: it is still the log, and is put aside by who comes next. Killed before the head
 * is written: the head is of the file that was put aside, and its size says so. */
#include "audit_parts.h"

#include "base/fd.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEW_LOG AUDIT_LOG ".new"

int64_t audit_file_max = 64 << 20;

static void old_name(int64_t last, char out[AUDIT_NAME_SIZE])
{
    snprintf(out, AUDIT_NAME_SIZE, AUDIT_OLD, last);
}

bool audit_was_put_aside(int dirfd, const struct audit_head *head)
{
    char name[AUDIT_NAME_SIZE];
    struct stat st;
    old_name(head->seq, name);
    return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_size == head->bytes;
}

static bool is_log(int dirfd, const char *name, const struct stat *log)
{
    struct stat st;
    return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == log->st_dev && st.st_ino == log->st_ino;
}

int audit_open(int dirfd, int flags, int lock, int *ret_fd, struct err *e)
{
    for (;;) {
        struct stat st;
        AUTO_FD int fd = openat(dirfd, AUDIT_LOG, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        if (fd < 0)
            return err_sys(e, -errno, "cannot open " AUDIT_LOG);
        while (flock(fd, lock) < 0)
            if (errno != EINTR)
                return err_sys(e, -errno, "cannot lock " AUDIT_LOG);
        if (fstat(fd, &st) < 0)
            return err_sys(e, -errno, "cannot read " AUDIT_LOG);
        if (is_log(dirfd, AUDIT_LOG, &st)) { /* else it was put aside before the lock was had */
            *ret_fd = fd_take(&fd);
            return 0;
        }
    }
}

int audit_put_aside(int dirfd, int fd, int64_t last, const struct buf *first, int *ret_fd, struct err *e)
{
    char name[AUDIT_NAME_SIZE];
    struct stat st;
    old_name(last, name);
    if (fstat(fd, &st) < 0 || (linkat(dirfd, AUDIT_LOG, dirfd, name, 0) < 0 && (errno != EEXIST || !is_log(dirfd, name, &st))))
        return err_sys(e, -errno, "cannot name " AUDIT_LOG " %s", name);
    AUTO_FD int new = openat(dirfd, NEW_LOG, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (new < 0)
        return err_sys(e, -errno, "cannot make " NEW_LOG);
    AUTO_FD int dir = openat(dirfd, "logs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = dir < 0 || flock(new, LOCK_EX) < 0 ? -errno : fd_write_all(new, first->p, first->n);
    if (r == 0 && (fsync(new) < 0 || renameat(dirfd, NEW_LOG, dirfd, AUDIT_LOG) < 0 || fsync(dir) < 0))
        r = -errno;
    if (r < 0)
        return err_sys(e, r, "cannot begin a new " AUDIT_LOG);
    *ret_fd = fd_take(&new);
    return 0;
}

/* ---- all of them ---- */

static int by_number(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int audit_list(int dirfd, const struct stat *log, struct audit_list *ret, struct err *e)
{
    *ret = (struct audit_list){0};
    DIR *d = fd_open_dir(dirfd, "logs");
    if (!d)
        return errno == ENOENT ? 0 : err_sys(e, -errno, "cannot list logs");
    for (struct dirent *ent; (ent = readdir(d));) {
        char name[AUDIT_NAME_SIZE];
        int64_t last = 0;
        if (sscanf(ent->d_name, "audit.%20" SCNd64, &last) != 1)
            continue;
        old_name(last, name);
        if (strcmp(name + sizeof "logs/" - 1, ent->d_name) != 0 || (log && is_log(dirfd, name, log)))
            continue;
        ret->last = xgrow(ret->last, ret->n, sizeof *ret->last);
        ret->last[ret->n++] = last;
    }
    closedir(d);
    if (ret->n)
        qsort(ret->last, ret->n, sizeof *ret->last, by_number);
    return 0;
}

void audit_list_fini(struct audit_list *l)
{
    free(l->last);
    *l = (struct audit_list){0};
}

int audit_open_old(int dirfd, int64_t last, char name[AUDIT_NAME_SIZE], FILE **ret, struct err *e)
{
    old_name(last, name);
    AUTO_FD int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || !(*ret = fdopen(fd, "r")))
        return err_sys(e, -errno, "cannot open %s", name);
    fd_take(&fd);
    return 0;
}
