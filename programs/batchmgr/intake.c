/* A name is looked at when inotify says that something closed or moved, and in a walk of all directories: at start, after an
 * inotify overflow, after a pause, and every rescan_ms, since inotify is a hint. */
#include "intake.h"
#include "candidates.h"
#include "claim.h"
#include "disk.h"
#include "hand_in.h"
#include "retention.h"
#include "spool.h"
#include "staging.h"
#include "staging_walk.h"
#include "state.h"
#include "tenants.h"
#include "turn.h"

#include "base/mem.h"
#include "loop/timer.h"

#include <signal.h>

enum { DISK_POLL_MS = 1000 };

struct intake {
    struct event *rescan_ev, *disk_ev;
};

static void on_candidates_overflow(struct batchmgr *m, struct tenant *t)
{
    walk_begin(m, t, true); /* which waits until some of them are looked at */
}

static const struct candidates_ops candidates_ops = {claim_try, on_candidates_overflow, walk_has_room};

static void walk_all(struct batchmgr *m, bool missed)
{
    size_t i = 0;
    candidates_take_missed(m);
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        if (missed || !t->n_candidates) /* what is still to be looked at comes first */
            walk_begin(m, t, missed);
}

void intake_rescan(struct batchmgr *m)
{
    walk_all(m, true);
}

static void on_rescan(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    (void)fd;
    (void)what;
    walk_all(m, false);
    retention_kick(m);
    spool_sweep(m);
    hand_in_forget(m);
    timer_set(m->intake->rescan_ev, m->conf->platform.rescan_ms);
}

static void on_disk(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    (void)fd;
    (void)what;
    if (disk_look(m)) {
        intake_rescan(m);
        turn_kick(m);
    }
    if (!candidates_are_paused(m) && candidates_take_missed(m))
        intake_rescan(m);
}

int intake_start(struct batchmgr *m, struct err *e)
{
    struct intake *x = m->intake = xcalloc(1, sizeof *x);
    signal(SIGIO, SIG_IGN); /* breaking a lease raises it */
    candidates_start(m, &candidates_ops);
    walk_start(m);
    claim_start(m);
    x->rescan_ev = event_new(m->base, -1, 0, on_rescan, m);
    x->disk_ev = event_new(m->base, -1, EV_PERSIST, on_disk, m);
    return staging_start(m, intake_rescan, e);
}

void intake_begin(struct batchmgr *m)
{
    timer_set(m->intake->disk_ev, DISK_POLL_MS);
    on_disk(-1, 0, m);
    event_active(m->intake->rescan_ev, EV_TIMEOUT, 0);
}

void intake_stop(struct batchmgr *m)
{
    if (!m->intake)
        return;
    staging_stop(m);
    claim_stop(m);
    walk_stop(m);
    candidates_stop(m);
    event_free(m->intake->rescan_ev);
    event_free(m->intake->disk_ev);
    free(m->intake);
    m->intake = NULL;
}
