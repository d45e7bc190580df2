#include "cross_device.h"
#include "inspect.h"
#include "state.h"

#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct cross_device {
    char *from, *to, *made; /* made: `to` until it is whole */
    cross_device_done done;
};

void cross_device_forget(struct file *f)
{
    struct cross_device *a = f->move;
    f->move = NULL;
    if (!a)
        return;
    free(a->from);
    free(a->to);
    free(a->made);
    free(a);
}

static void end(struct batchmgr *m, struct file *f, int r)
{
    cross_device_done done = f->move->done;
    cross_device_forget(f);
    done(m, f, r);
}

static char *made_file(const struct file *f)
{
    return xasprintf("%s/%s", f->move->made, f->safe);
}

/* Gives the copy the original's group, mode and times. */
static int dress(int fd, const struct stat *as)
{
    const struct timespec times[2] = {as->st_atim, as->st_mtim};
    if (fchown(fd, (uid_t)-1, as->st_gid) < 0 || fchmod(fd, as->st_mode & 0777) < 0 || futimens(fd, times) < 0)
        return -errno;
    return 0;
}

/* The copy is complete: gives it the original's looks and the final name. */
static int settle(struct batchmgr *m, const struct cross_device *a)
{
    struct stat st;
    AUTO_FD int from = openat(m->home.dirfd, a->from, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    AUTO_FD int made = openat(m->home.dirfd, a->made, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0 || made < 0 || fstat(from, &st) < 0)
        return -errno;
    int r = dress(made, &st);
    if (r == 0 && fsync(made) < 0)
        r = -errno;
    crash_at(CRASH_across_copy);
    if (r == 0 && renameat(m->home.dirfd, a->made, m->home.dirfd, a->to) < 0)
        r = -errno;
    crash_at(CRASH_across_rename);
    return r;
}

static int open_copy(struct batchmgr *m, struct file *f, int fds[2])
{
    AUTO_FREE char *source = xasprintf("%s/%s", f->move->from, f->safe);
    AUTO_FREE char *target = made_file(f);
    struct stat st;
    int r = fd_mkdirs(m->home.dirfd, f->move->made, 0700);
    bool none = r == 0 && fstatat(m->home.dirfd, source, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
    if (none) {
        end(m, f, settle(m, f->move));
        return -1;
    }
    AUTO_FD int from = r < 0 ? -1 : openat(m->home.dirfd, source, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (r == 0 && (from < 0 || fstat(from, &st) < 0))
        r = errno == ELOOP || errno == ENXIO ? ERR_REFUSED : -errno;
    else if (r == 0 && !S_ISREG(st.st_mode))
        r = ERR_REFUSED;
    AUTO_FD int to = r < 0 ? -1 : openat(m->home.dirfd, target, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (r == 0 && to < 0)
        r = -errno;
    if (r < 0) {
        end(m, f, r);
        return -1;
    }
    fds[0] = fd_take(&from);
    fds[1] = fd_take(&to);
    return 0;
}

static void on_copied(struct batchmgr *m, struct file *f, bool ok, const char *detail)
{
    AUTO_FREE char *source = xasprintf("%s/%s", f->move->from, f->safe);
    AUTO_FREE char *target = made_file(f);
    struct stat st;
    if (!ok) {
        log_warn("copy", f->tenant, NULL, "%s (%s) to %s: %s", f->file_id, f->name, f->move->to, detail);
        end(m, f, -EIO);
        return;
    }
    AUTO_FD int fd = openat(m->home.dirfd, target, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 || fstatat(m->home.dirfd, source, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : dress(fd, &st);
    end(m, f, r < 0 ? r : settle(m, f->move));
}

static const struct inspect_copy_ops copy_ops = {open_copy, on_copied};

void cross_device_move(struct batchmgr *m, struct file *f, const char *from, const char *to, cross_device_done done)
{
    f->move = xmalloc(sizeof *f->move);
    *f->move = (struct cross_device){xstrdup(from), xstrdup(to), xasprintf("%s.copy", to), done};
    inspect_copy(m, f, &copy_ops);
}
