#include "step_lock.h"
#include "channel.h"
#include "node.h"

#include "base/crash.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOCK_TRIES = 100, LOCK_RETRY_MS = 2 };

static int open_lock(struct runner *r, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s/%s.lock", r->spec->runtime, r->spec->claim);
    for (int i = 0; i < LOCK_TRIES; i++) {
        struct stat st;
        r->lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (r->lock < 0)
            return err_sys(e, -errno, "cannot open %s", path);
        bool taken = flock(r->lock, LOCK_EX | LOCK_NB) == 0;
        if (taken && fstat(r->lock, &st) == 0 && st.st_nlink)
            return 0;
        close(fd_take(&r->lock)); /* what dead runners left is being cleared (lib/run/leftovers.c), and that took our new file for
                                     some of it */
        if (!taken)
            poll(NULL, 0, LOCK_RETRY_MS);
    }
    return err_set(e, ERR_REFUSED, "another runner works on %s", r->spec->claim);
}

int claim_step(struct runner *r, struct err *e)
{
    const struct run_spec *s = r->spec;
    int n = s->cluster ? node_runtime(s->runtime, e) : 0;
    if (n == 0)
        n = open_lock(r, e);
    if (n < 0)
        return n;
    /* The manager may write below runs/, so a link there is not followed. (runs/ itself may be a link, made by the provider.) */
    const char *slash = strrchr(s->dir, '/');
    AUTO_FREE char *parent = xstrndup(s->dir, slash > s->dir ? (size_t)(slash - s->dir) : 1);
    AUTO_FD int at = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC | (s->step == RUN_STEP_load ? O_NOFOLLOW : 0));
    if (at < 0)
        return err_sys(e, -errno, "cannot open %s", parent);
    if (mkdirat(at, slash + 1, 0711) < 0)
        return errno == EEXIST ? err_set(e, ERR_REFUSED, "%s exists: this run was claimed or cancelled before", s->dir)
                               : err_sys(e, -errno, "cannot make %s", s->dir);
    crash_at(CRASH_run_claim_mkdir);
    r->dirfd = openat(at, slash + 1, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (r->dirfd < 0)
        return err_sys(e, -errno, "cannot open %s", s->dir);
    if (s->cluster && (n = node_sign(r->dirfd, e)) < 0)
        return n;
    AUTO_FREE char *sock = xasprintf("%s/%s.sock", s->runtime, s->claim);
    r->listener = fd_unix_listen(sock, 0600);
    if (r->listener < 0)
        return err_sys(e, r->listener, "cannot listen on %s", sock);
    channel_say(r, RUN_SAID_CLAIMED);
    return 0;
}

void claim_release(struct runner *r)
{
    AUTO_FREE char *sock = xasprintf("%s/%s.sock", r->spec->runtime, r->spec->claim);
    AUTO_FREE char *lock = xasprintf("%s/%s.lock", r->spec->runtime, r->spec->claim);
    if (r->dirfd >= 0)
        unlink(sock);
    if (r->lock >= 0 && r->dirfd >= 0)
        unlink(lock);
}
