#include "staging.h"
#include "candidates.h"
#include "moving.h"
#include "state.h"
#include "tenants.h"

#include "manager/spawner.h"

#include "base/beneath.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

enum {
    READS_PER_TURN = 64, /* together they empty the kernel's queue, at its default size */
    OVERFLOW_LOG_MS = 60000,
};

struct watch {
    char *tenant, *dataset;
};

struct staging {
    void (*overflow)(struct batchmgr *m);
    int fd; /* of inotify */
    struct event *ev;
    struct map watches; /* "wd" -> struct watch */
    int64_t overflow_logged_ms;
};

static void wd_key(int wd, char out[16])
{
    snprintf(out, 16, "%d", wd);
}

static void on_overflow(struct batchmgr *m)
{
    int64_t now_ms = clk_now_ms();
    if (!m->staging->overflow_logged_ms || now_ms - m->staging->overflow_logged_ms > OVERFLOW_LOG_MS) {
        log_warn("inotify_overflow", NULL, NULL, "too many changes at once; looking at everything");
        m->staging->overflow_logged_ms = now_ms;
    }
    m->staging->overflow(m);
}

static bool read_inotify(struct batchmgr *m)
{
    char chunk[16384] __attribute__((aligned(8)));
    ssize_t n = read(m->staging->fd, chunk, sizeof chunk);
    for (ssize_t i = 0; i < n;) {
        const struct inotify_event *ev = (const struct inotify_event *)(chunk + i);
        char key[16];
        i += (ssize_t)(sizeof *ev + ev->len);
        if (ev->mask & IN_Q_OVERFLOW) {
            on_overflow(m);
            continue;
        }
        if (!ev->len || candidates_ignore(ev->name))
            continue;
        wd_key(ev->wd, key);
        const struct watch *w = map_get(&m->staging->watches, key);
        if (w)
            candidates_saw(m, tenant_get(m, w->tenant), w->dataset, ev->name);
    }
    return n > 0;
}

/* Empties the queue in one go. It is one queue for all tenants: a quiet tenant's name must not wait in it behind another's flood.
 * Claims, which cost more, are shared fairly (candidates.h). */
static void on_inotify(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    for (int i = 0; i < READS_PER_TURN && read_inotify(arg); i++)
        ;
}

/* Owner and mode are changed by descriptor: whatever a tenant put there before the directory was wanted, no link is followed. */
static int make_staging(struct batchmgr *m, const struct tenant *t, const char *path, mode_t mode, struct err *e)
{
    if (mkdirat(m->home.dirfd, path, 0700) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s", path);
    int r = beneath_own_dir(m->home.dirfd, path, t->gid >= 0 ? (int64_t)geteuid() : -1, t->gid, mode);
    if (r == -ELOOP || r == -ENOTDIR)
        return err_set(e, ERR_REFUSED, "%s is no directory; remove it", path);
    return r < 0 ? err_sys(e, r, "cannot give %s to tenant %s", path, t->id) : 0;
}

/* Of the tenant alone from when it is made, or from when it was open to all (a version before this): whoever narrowed it otherwise,
 * for a group that deploys, say, is left alone. A link is the provider's too: only he can write there. */
static void keep_others_out(struct batchmgr *m, const struct tenant *t, const char *path)
{
    struct stat st;
    mkdirat(m->home.dirfd, path, 0755);
    if (fstatat(m->home.dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) || !(st.st_mode & 0007))
        return;
    int r = beneath_own_dir(m->home.dirfd, path, -1, t->gid, st.st_mode & 07770);
    if (r < 0)
        log_warn("modes", t->id, NULL, "%s stays readable for every account: %s", path, err_text(r));
}

static int add_dataset(struct batchmgr *m, const struct tenant *t, const char *dataset, struct err *e)
{
    AUTO_FREE char *rel = xasprintf("staging/%s/%s", t->id, dataset);
    AUTO_FREE char *path = home_path(&m->home, rel);
    int r = make_staging(m, t, rel, moving_is_held(m, t->id) ? 0700 : 01770, e); /* what is being moved stays as it is */
    if (r == ERR_REFUSED) { /* the tenant caused it, so the other tenants start all the same */
        log_error("staging", t->id, NULL, "%s; until then nothing is taken in for this dataset", e->msg);
        return 0;
    }
    if (r < 0)
        return r;
    int wd = inotify_add_watch(m->staging->fd, path, IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR | IN_DONT_FOLLOW);
    if (wd < 0) {
        log_warn("inotify", t->id, NULL, "cannot watch %s: %s; new files there are found every rescan_ms", path, strerror(errno));
        return 0;
    }
    char key[16];
    wd_key(wd, key);
    if (map_get(&m->staging->watches, key))
        return 0;
    struct watch *w = xmalloc(sizeof *w);
    *w = (struct watch){xstrdup(t->id), xstrdup(dataset)};
    map_put(&m->staging->watches, key, w);
    return 0;
}

int staging_add_tenant(struct batchmgr *m, struct tenant *t, struct err *e)
{
    const struct conf_tenant *c = tenant_conf(m, t);
    const struct conf_dataset *d = c->datasets.v;
    AUTO_FREE char *rel = xasprintf("staging/%s", t->id);
    struct warden_request apps = {.op = WARDEN_APPS, .number = t->uid};
    int r = make_staging(m, t, rel, 0750, e); /* what lies in it is ours to make */
    AUTO_FREE char *logs = xasprintf("logs/tenants/%s", t->id);
    snprintf(apps.tenant, sizeof apps.tenant, "%s", t->id);
    if (r == 0 && (r = spawner_tell(m->spawner, &apps, NULL, NULL, 0)) < 0)
        err_sys(e, r, "cannot ask the warden for apps/%s", t->id);
    keep_others_out(m, t, logs);
    for (size_t i = 0; r == 0 && i < c->datasets.n; i++)
        r = add_dataset(m, t, d[i].name, e);
    return r;
}

int staging_start(struct batchmgr *m, void (*overflow)(struct batchmgr *m), struct err *e)
{
    struct staging *x = m->staging = xcalloc(1, sizeof *x);
    x->overflow = overflow;
    x->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (x->fd < 0)
        return err_sys(e, -errno, "cannot use inotify (too many instances? see /proc/sys/fs/inotify)");
    x->ev = event_new(m->base, x->fd, EV_READ | EV_PERSIST, on_inotify, m);
    event_add(x->ev, NULL);
    return 0;
}

void staging_stop(struct batchmgr *m)
{
    struct staging *x = m->staging;
    size_t i = 0;
    if (!x)
        return;
    if (x->ev)
        event_free(x->ev);
    if (x->fd >= 0)
        close(x->fd);
    for (struct watch *w; (w = map_next(&x->watches, &i));) {
        free(w->tenant);
        free(w->dataset);
        free(w);
    }
    map_fini(&x->watches);
    free(x);
    m->staging = NULL;
}
