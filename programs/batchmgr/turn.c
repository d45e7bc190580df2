#include "turn.h"
#include "state.h"

#include "base/mem.h"

enum { QUIT_FLUSH_MS = 50 };

struct turn {
    const struct turn_ops *ops;
    struct event *dispatch_ev;
    bool quit;
};

static void on_dispatch(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    (void)fd;
    (void)what;
    m->turn->ops->dispatch(m);
}

void turn_start(struct batchmgr *m, const struct turn_ops *ops)
{
    m->turn = xcalloc(1, sizeof *m->turn);
    m->turn->ops = ops;
    m->turn->dispatch_ev = event_new(m->base, -1, 0, on_dispatch, m);
}

void turn_stop(struct batchmgr *m)
{
    if (!m->turn)
        return;
    event_free(m->turn->dispatch_ev);
    free(m->turn);
    m->turn = NULL;
}

void turn_kick(struct batchmgr *m)
{
    event_active(m->turn->dispatch_ev, EV_TIMEOUT, 0);
}

static void on_quit(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(arg);
}

void turn_check_quit(struct batchmgr *m)
{
    if (!m->draining || m->turn->ops->n_runs(m) || m->turn->quit)
        return;
    m->turn->quit = true;
    m->turn->ops->drained(m);
    struct timeval tv = {0, QUIT_FLUSH_MS * 1000}; /* lets the answers leave */
    event_base_once(m->base, -1, EV_TIMEOUT, on_quit, m->base, &tv);
}
