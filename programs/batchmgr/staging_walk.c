/* A tenant can make as many names in its directories as the file system has inodes, and ignored ones stay there. So a turn of the
 * loop reads NAMES_PER_TURN of them at most, shared by all tenants whose walk is not over, and the next turn is TURN_MS later: a
 * million names take 5 s, a few per cent of a core, and nobody waits for them. A walk keeps its place between turns, and waits
 * there while its tenant has CANDIDATES_MAX names that are not looked at yet. */
#include "staging_walk.h"
#include "candidates.h"
#include "state.h"
#include "tenants.h"

#include "base/fd.h"
#include "base/mem.h"
#include "loop/timer.h"

#include <dirent.h>
#include <errno.h>

struct walk { /* of a tenant's directories */
    bool on, again;
    DIR *dir;      /* where it is; NULL: between two of them */
    char *dataset; /* whose directory that is */
    size_t next;   /* dataset that comes then */
};

struct walks {
    struct event *turn_ev;
};

enum { NAMES_PER_TURN = 1024, FEWEST = 64, TURN_MS = 5 };

static void forget(struct walk *w)
{
    if (w->dir)
        closedir(w->dir);
    w->dir = NULL;
    xstr_set(&w->dataset, NULL);
    w->next = 0;
}

/* A directory that could not be opened for lack of descriptors or memory is walked again later. */
static void note_trouble(struct batchmgr *m, int error)
{
    if (fd_is_shortage(error))
        candidates_missed(m);
}

/* The next directory that there is; false after the last. */
static bool open_next(struct batchmgr *m, const struct tenant *t, struct walk *w)
{
    const struct conf_tenant *c = tenant_conf(m, t);
    const struct conf_dataset *d = c ? c->datasets.v : NULL;
    while (c && !w->dir && w->next < c->datasets.n) {
        xstr_set(&w->dataset, d[w->next++].name);
        AUTO_FREE char *path = xasprintf("staging/%s/%s", t->id, w->dataset);
        w->dir = fd_open_dir(m->home.dirfd, path);
        if (!w->dir)
            note_trouble(m, errno);
    }
    return w->dir != NULL;
}

/* Reads `n` names. True when it goes on by itself. */
static bool walk_some(struct batchmgr *m, struct tenant *t, int n)
{
    struct walk *w = t->walk;
    while (n > 0 && t->n_candidates < CANDIDATES_MAX) {
        struct dirent *ent = NULL;
        if (!tenant_accepts(t) || (!w->dir && !open_next(m, t, w))) {
            w->on = w->again && tenant_accepts(t);
            w->again = false;
            forget(w);
            return w->on;
        }
        if ((ent = readdir(w->dir))) {
            candidates_saw(m, t, w->dataset, ent->d_name);
            n--;
        } else {
            closedir(w->dir);
            w->dir = NULL;
        }
    }
    return n == 0;
}

static void go_on(struct batchmgr *m)
{
    if (!evtimer_pending(m->walks->turn_ev, NULL))
        timer_set(m->walks->turn_ev, TURN_MS);
}

static bool is_on(const struct tenant *t)
{
    return t->walk && t->walk->on;
}

void walk_has_room(struct batchmgr *m, struct tenant *t)
{
    if (is_on(t))
        go_on(m);
}

static void on_walk(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    size_t i = 0;
    int n_on = 0;
    bool more = false;
    (void)fd;
    (void)what;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        n_on += is_on(t);
    int share = n_on && NAMES_PER_TURN / n_on > FEWEST ? NAMES_PER_TURN / n_on : FEWEST;
    i = 0;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        if (is_on(t))
            more |= walk_some(m, t, share);
    if (more)
        go_on(m);
}

void walk_begin(struct batchmgr *m, struct tenant *t, bool missed)
{
    if (!tenant_accepts(t))
        return;
    if (!t->walk)
        t->walk = xcalloc(1, sizeof *t->walk);
    t->walk->again |= t->walk->on && missed;
    t->walk->on = true;
    go_on(m);
}

void walk_start(struct batchmgr *m)
{
    m->walks = xcalloc(1, sizeof *m->walks);
    m->walks->turn_ev = event_new(m->base, -1, 0, on_walk, m);
}

void walk_stop(struct batchmgr *m)
{
    size_t i = 0;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));) {
        if (t->walk)
            forget(t->walk);
        free(t->walk);
        t->walk = NULL;
    }
    event_free(m->walks->turn_ev);
    free(m->walks);
    m->walks = NULL;
}
