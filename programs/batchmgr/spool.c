#include "spool.h"
#include "claim.h"
#include "state.h"

#include "manager/spawner.h"

#include "base/beneath.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/uid_block.h"
#include "loop/timer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { NAMES_PER_TURN = 256, TURN_MS = 5 };

struct spool {
    struct event *ev;
    DIR *dir;   /* that is being swept; NULL: none is */
    bool below; /* it is SPOOL_RESUMABLE */
};

/* -1: it has no uid of its own. */
static int64_t gateway_uid(const struct batchmgr *m)
{
    return uid_of_program(&m->home, m->conf->platform.uid_base, UID_GATEWAY);
}

bool spool_brought(const struct file *f)
{
    return f->from && !strcmp(f->from, SPOOL);
}

bool spool_may_hold(struct batchmgr *m, const struct stat *st)
{
    int64_t uid = gateway_uid(m);
    return st->st_uid == geteuid() || (uid >= 0 && st->st_uid == uid);
}

/* ---- what may be handed in ---- */

static int refuse(struct err *e, const char *name, const char *why)
{
    return err_refuse(e, "spool", 0, "%s in the spool %s", name, why);
}

int spool_check(struct batchmgr *m, const char *name, int64_t size, struct err *e)
{
    struct stat st;
    AUTO_FD int dir = beneath_open(m->home.dirfd, SPOOL, O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return refuse(e, name, "is not there (any more)");
    if (!S_ISREG(st.st_mode))
        return refuse(e, name, "is no regular file");
    if (st.st_nlink != 1)
        return refuse(e, name, "has another name somewhere");
    if (!spool_may_hold(m, &st))
        return refuse(e, name, "is not the gateway's");
    AUTO_FD int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return refuse(e, name, "cannot be opened");
    if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0)
        fcntl(fd, F_SETLEASE, F_UNLCK);
    else if (errno == EAGAIN)
        return refuse(e, name, "is still open for writing");
    return st.st_size == size ? 0 : refuse(e, name, "has another size than it was handed in with");
}

void spool_remove(struct batchmgr *m, const char *name)
{
    AUTO_FREE char *path = xasprintf("%s/%s", SPOOL, name);
    if (unlinkat(m->home.dirfd, path, 0) < 0 && errno != ENOENT) /* a directory, however large */
        spawner_discard(m->spawner, m->home.dirfd, path);
}

/* ---- sweeping ---- */

/* Seconds since it changed; -1: there is none. */
static int64_t age_of(int dir, const char *name)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    int64_t age_s = clk_wall_ms() / 1000 - (int64_t)st.st_mtim.tv_sec;
    return age_s > 0 ? age_s : 0;
}

/* One of an upload that may be gone on with: when its description does not hold any more, and the gateway, whose it is to remove,
 * has had the time to. Each half is judged with the other. */
static void sweep_below(struct batchmgr *m, const char *name)
{
    int dir = dirfd(m->spool->dir);
    AUTO_FREE char *id = xstrndup(name, strcspn(name, ".")), *description = xasprintf("%s.json", id),
                   *path = xasprintf(SPOOL_RESUMABLE "/%s", name);
    const char *const halves[] = {name, id, description};
    int64_t least_s = INT64_MAX;
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++) {
        int64_t age_s = age_of(dir, halves[i]);
        if (age_s >= 0 && age_s < least_s)
            least_s = age_s;
    }
    if (least_s != INT64_MAX && least_s > SPOOL_RESUMABLE_S + SPOOL_OLD_S)
        spool_remove(m, path);
}

/* SPOOL_RESUMABLE itself stays, however long nothing came or went in it. */
static void sweep_one(struct batchmgr *m, const char *name)
{
    struct stat st;
    if (!strcmp(name, SPOOL_RESUMABLE) || claim_is_staged(m, SPOOL, name) ||
        fstatat(dirfd(m->spool->dir), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    int64_t age_s = clk_wall_ms() / 1000 - (int64_t)st.st_mtim.tv_sec;
    AUTO_FREE char *description = xasprintf(SPOOL_RESUMABLE "/%s.json", name);
    int64_t described_s = age_of(dirfd(m->spool->dir), description);
    if (age_s <= SPOOL_OLD_S || (described_s >= 0 && described_s <= SPOOL_RESUMABLE_S))
        return;
    log_debug("spool", NULL, NULL, "%s was given up %lld s ago", name, (long long)age_s);
    spool_remove(m, name);
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    struct spool *s = m->spool;
    struct dirent *ent = NULL;
    (void)fd;
    (void)what;
    for (int i = 0; i < NAMES_PER_TURN && (ent = readdir(s->dir)); i++)
        if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
            (s->below ? sweep_below : sweep_one)(m, ent->d_name);
    if (!ent) {
        closedir(s->dir);
        s->dir = s->below ? NULL : fd_open_dir(m->home.dirfd, SPOOL "/" SPOOL_RESUMABLE);
        s->below = s->dir != NULL;
    }
    if (s->dir)
        timer_set(s->ev, TURN_MS);
}

void spool_sweep(struct batchmgr *m)
{
    struct spool *s = m->spool;
    if (!s->dir && (s->dir = fd_open_dir(m->home.dirfd, SPOOL)))
        timer_set(s->ev, 0);
}

/* ---- the directory ---- */

void spool_start(struct batchmgr *m)
{
    int64_t uid = gateway_uid(m);
    m->spool = xcalloc(1, sizeof *m->spool);
    m->spool->ev = event_new(m->base, -1, 0, on_sweep, m);
    int r = mkdirat(m->home.dirfd, SPOOL, 0700) < 0 && errno != EEXIST ? -errno : 0;
    if (r == 0)
        r = beneath_own_dir(m->home.dirfd, SPOOL, uid >= 0 ? uid : (int64_t)geteuid(), uid, 0700);
    if (r < 0)
        log_error("spool", NULL, NULL, "%s cannot be given to the gateway: %s; until then nothing can be handed in by it", SPOOL,
                  err_text(r));
}

void spool_stop(struct batchmgr *m)
{
    if (!m->spool)
        return;
    if (m->spool->dir)
        closedir(m->spool->dir);
    event_free(m->spool->ev);
    free(m->spool);
    m->spool = NULL;
}
