#include "collect.h"

#include "base/beneath.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAX_OUTPUT_FILES = 10000,
    NAME_SHOWN = 200,
    MAX_REJECTS_BYTES = 32 << 20, /* twice what the loader and libsimbdp write */
};

/* Copies from a working directory in memory to the disk, and stops beyond `max` bytes. */
static int copy_file(struct runner *r, int from, const char *to, int64_t max)
{
    gid_t gid = r->spec->gid >= 0 ? (gid_t)r->spec->gid : (gid_t)-1;
    AUTO_FD int fd = openat(r->dirfd, to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0440);
    int n = fd < 0 || fchown(fd, (uid_t)-1, gid) < 0 ? -errno : 0;
    char chunk[65536];
    ssize_t got = 0;
    while (n == 0 && max >= 0 && (got = read(from, chunk, sizeof chunk)) > 0) {
        n = fd_write_all(fd, chunk, (size_t)got);
        max -= got;
    }
    if (n == 0 && got < 0)
        n = -errno;
    return n == 0 && fsync(fd) < 0 ? -errno : n;
}

/* What a file is that is not a regular one with a single link; NULL: it is. `st` comes from a call that follows no link. */
static const char *what_else(const struct stat *st)
{
    return S_ISLNK(st->st_mode)    ? "a symbolic link"
           : S_ISDIR(st->st_mode)  ? "a directory"
           : S_ISFIFO(st->st_mode) ? "a pipe"
           : S_ISSOCK(st->st_mode) ? "a socket"
           : !S_ISREG(st->st_mode) ? "a device"
           : st->st_nlink != 1     ? "a hard link"
                                   : NULL;
}

/* The name as it may be shown: bytes that are no UTF-8 as numbers. */
static char *shown_name(const char *name)
{
    AUTO_BUF struct buf b = {0};
    buf_add(&b, "", 0);
    for (size_t i = 0, n = strlen(name), l; i < n && b.n < NAME_SHOWN; i += l ? l : 1) {
        l = utf8_len((const unsigned char *)name + i, n - i);
        if (l && !utf8_is_control((const unsigned char *)name + i, l))
            buf_add(&b, name + i, l);
        else
            for (size_t k = 0; k < (l ? l : 1); k++)
                buf_addf(&b, "\\x%02x", (unsigned char)name[i + k]);
    }
    return xstrdup(b.p);
}

/* Opens one file of SIMBDP_OUTPUT_DIR: a regular one with one link. The descriptor, or ERR_FORMAT with why not. */
static int open_output(int dir, const char *name, int n, struct stat *st, char *why, size_t why_size)
{
    AUTO_FREE char *shown = shown_name(name);
    AUTO_FD int f = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int e = errno;
    if (n > MAX_OUTPUT_FILES) {
        snprintf(why, why_size, "SIMBDP_OUTPUT_DIR holds more than %d files; write fewer, larger ones", MAX_OUTPUT_FILES);
        return ERR_FORMAT;
    }
    if (!utf8_valid(name, strlen(name))) {
        snprintf(why, why_size, "the name of the output file '%s' is not UTF-8", shown);
        return ERR_FORMAT;
    }
    if ((f < 0 ? fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) : fstat(f, st)) == 0 && what_else(st)) {
        snprintf(why, why_size, "'%s' in SIMBDP_OUTPUT_DIR is %s; only regular files with one link are taken", shown,
                 what_else(st));
        return ERR_FORMAT;
    }
    if (f < 0) {
        snprintf(why, why_size, "'%s' in SIMBDP_OUTPUT_DIR cannot be opened: %s", shown, err_text(-e));
        return ERR_FORMAT;
    }
    return fd_take(&f);
}

/* Takes the files of SIMBDP_OUTPUT_DIR from the tenant: regular files with one link only, made the platform's. */
static int take_output_files(struct runner *r, int fd, int64_t *total, char *why, size_t why_size)
{
    DIR *d = fdopendir(fd);
    int n = 0, r0 = 0;
    if (!d) {
        close(fd);
        return -ENOMEM;
    }
    for (struct dirent *ent; r0 == 0 && (ent = fd_next_name(d, &r0));) {
        struct stat st;
        AUTO_FD int f = open_output(fd, ent->d_name, ++n, &st, why, why_size);
        if (f < 0)
            return closedir(d), f;
        *total = st.st_size > INT64_MAX - *total
                     ? INT64_MAX
                     : *total + st.st_size; /* the sum may overflow: files with holes can claim any size */
        if (r->spec->scratch_in_memory) {
            AUTO_FREE char *to = xasprintf("output.part/%s", ent->d_name);
            r0 = *total > r->spec->output_bytes ? 0 : copy_file(r, f, to, st.st_size);
        } else if (fchown(f, r->spec->uid >= 0 ? geteuid() : (uid_t)-1, r->spec->gid >= 0 ? (gid_t)r->spec->gid : (gid_t)-1) < 0 ||
                   fchmod(f, 0440) < 0 || (*total <= r->spec->output_bytes && fsync(f) < 0)) /* it may be the app's, unsynced */
            r0 = -errno;
    }
    closedir(d);
    return r0 == 0 && *total <= r->spec->output_bytes ? fd_sync_dir(r->dirfd, "output.part") : r0;
}

/* True when what lies at `name` is what `fd` has open: nobody put something else in its place. */
static bool is_same(const struct runner *r, const char *name, int fd)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && fstatat(r->dirfd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

/* Of a working directory in memory. Nobody else reaches it any more: its mount namespace ended with the run. */
static int take_output_of_memory(struct runner *r, int64_t *total, char *why, size_t why_size)
{
    int fd = openat(r->app, "out", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : take_output_files(r, fd, total, why, why_size);
}

/* Takes SIMBDP_OUTPUT_DIR to where the tenant cannot reach it, then looks into it: its content
 * is trusted only once it is moved away and owned, all through one descriptor. */
static int take_output_dir(struct runner *r, int64_t *total, char *why, size_t why_size)
{
    gid_t gid = r->spec->gid >= 0 ? (gid_t)r->spec->gid : (gid_t)-1;
    AUTO_FD int fd = beneath_open(r->dirfd, "app/out", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    if (unlinkat(r->dirfd, "output.part", AT_REMOVEDIR) < 0 || renameat(r->dirfd, "app/out", r->dirfd, "output.part") < 0)
        return -errno;
    if (!is_same(r, "output.part", fd)) {
        snprintf(why, why_size, "SIMBDP_OUTPUT_DIR was exchanged while it was taken");
        return ERR_FORMAT;
    }
    if (fchown(fd, geteuid(), gid) < 0 || fchmod(fd, 0750) < 0)
        return -errno;
    int listed = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return listed < 0 ? -errno : take_output_files(r, listed, total, why, why_size);
}

/* Gives complete output its final name. */
void take_output(struct runner *r, struct outcome *o)
{
    char why[512] = "cannot keep the output";
    int n = 0;
    if (r->spec->output == RUN_OUTPUT_none || o->outcome != RUN_ok)
        return;
    if (r->collects) {
        if (r->collected.error)
            n = r->collected.error;
        else if (fsync(r->collected.fd) < 0)
            n = -errno;
    } else {
        int64_t total = 0;
        n = r->spec->scratch_in_memory ? take_output_of_memory(r, &total, why, sizeof why)
                                       : take_output_dir(r, &total, why, sizeof why);
        r->result.output_bytes = total;
        bool too_much = n == 0 && total > r->spec->output_bytes;
        if (n < 0 || too_much)
            fd_remove_tree(r->dirfd, "output.part"); /* it may be as large as scratch, which is not kept either */
        if (too_much) {
            *o = (struct outcome){RUN_limit, o->exit_code, -1, RUN_LIMIT_output_bytes};
            return;
        }
    }
    crash_at(CRASH_run_output_rename);
    if (n == 0 && renameat(r->dirfd, "output.part", r->dirfd, "output") < 0)
        n = -errno;
    if (n < 0) {
        o->outcome = RUN_failed;
        r->result.error = n == ERR_FORMAT ? xstrdup(why) : xasprintf("%s: %s", why, err_text(n));
    }
}

/* Opens a file that the tenant may have forged: bare name, no link, regular, one link, below `max` bytes. */
static int open_app_file(struct runner *r, const char *name, int64_t max)
{
    AUTO_FD int fd = openat(r->app, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_size > max)
        return ERR_FORMAT;
    return fd_take(&fd);
}

/* The file of rejects that the app names, to where the tenant cannot reach it. */
static int move_rejects(struct runner *r, int fd, const char *name)
{
    AUTO_FREE char *from = xasprintf("app/%s", name);
    if (renameat(r->dirfd, from, r->dirfd, "rejects.jsonl") < 0)
        return -errno;
    if (!is_same(r, "rejects.jsonl", fd)) {
        fd_remove_tree(r->dirfd, "rejects.jsonl");
        return -ESTALE;
    }
    return (r->spec->uid >= 0 && fchown(fd, geteuid(), getegid()) < 0) || fchmod(fd, 0600) < 0 ? -errno : 0;
}

static void take_rejects(struct runner *r, const char *name)
{
    AUTO_FD int fd = open_app_file(r, name, MAX_REJECTS_BYTES);
    int n = fd < 0                       ? fd
            : r->spec->scratch_in_memory ? copy_file(r, fd, "rejects.jsonl", MAX_REJECTS_BYTES)
                                         : move_rejects(r, fd, name);
    if (n < 0)
        log_warn("rejects", r->spec->tenant, r->spec->run_id,
                 "the rejects file is not kept: it has to be a regular file with one link and at most %d MiB, and to stay one (%s)",
                 MAX_REJECTS_BYTES >> 20, err_text(n));
}

/* What the result has instead of a result file that cannot be read. It is not JSON, so the manager tells it from an app's own
 * words. Caller frees. */
static char *unreadable_result(const struct runner *r)
{
    struct stat st;
    const char *what = fstatat(r->app, "result.json", &st, AT_SYMLINK_NOFOLLOW) < 0 ? "not there any more" : what_else(&st);
    AUTO_FREE char *size = xasprintf("of more than %d KiB", RUN_MAX_APP_RESULT_BYTES >> 10);
    return xasprintf("(SIMBDP_RESULT_FILE is %s; it has to be a regular file with one link and at most %d KiB)", what ? what : size,
                     RUN_MAX_APP_RESULT_BYTES >> 10);
}

void take_app_result(struct runner *r)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FD int fd = open_app_file(r, "result.json", RUN_MAX_APP_RESULT_BYTES);
    if (fd == -ENOENT)
        return;
    if (fd < 0 || fd_read_all(fd, &b, RUN_MAX_APP_RESULT_BYTES) < 0) {
        r->result.app_result = unreadable_result(r);
        return;
    }
    buf_add(&b, "", 0);
    r->result.app_result = xstrdup(b.p);
    struct app_result a;
    if (app_result_parse(b.p, b.n, &a, NULL) < 0)
        return;
    if (a.rejects_file)
        take_rejects(r, a.rejects_file);
    app_result_free(&a);
}
