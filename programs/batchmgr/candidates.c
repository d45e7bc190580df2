#include "candidates.h"
#include "ledger.h"
#include "state.h"
#include "tenants.h"

#include "base/mem.h"
#include "loop/timer.h"

#include <string.h>
#include <sys/queue.h>

enum { CLAIMS_PER_TURN = 32 /* of a tenant */, SLOWED_MS = 100 };

struct candidate {
    char *dataset, *name;
    struct candidate *next;
};

/* A name that is looked at again after a while. */
struct later {
    struct batchmgr *m;
    char *tenant, *dataset, *name;
    struct event *ev;
    LIST_ENTRY(later) others;
};

struct candidates {
    const struct candidates_ops *ops;
    struct event *turn_ev;
    size_t n;    /* of all tenants */
    bool missed; /* one was dropped, or could not be looked at */
    LIST_HEAD(laters, later) laters;
};

bool candidates_ignore(const char *name)
{
    size_t n = strlen(name);
    return name[0] == '.' || (n >= 5 && !strcmp(name + n - 5, ".part"));
}

void candidates_missed(struct batchmgr *m)
{
    m->candidates->missed = true;
}

bool candidates_take_missed(struct batchmgr *m)
{
    bool missed = m->candidates->missed;
    m->candidates->missed = false;
    return missed;
}

bool candidates_are_paused(struct batchmgr *m)
{
    return m->disk_low || m->draining || ledger_stalled(m->ledger, NULL, 0);
}

bool candidates_are_slowed(struct tenant *t)
{
    return t->first && tenant_is_slowed(t);
}

/* ---- one list a tenant ---- */

static void free_candidate(struct candidate *c)
{
    free(c->dataset);
    free(c->name);
    free(c);
}

static struct candidate *take_first(struct candidates *x, struct tenant *t)
{
    struct candidate *c = t->first;
    t->first = c->next;
    if (!t->first)
        t->last = &t->first;
    t->n_candidates--;
    x->n--;
    return c;
}

void candidates_saw(struct batchmgr *m, struct tenant *t, const char *dataset, const char *name)
{
    struct candidates *x = m->candidates;
    if (candidates_ignore(name))
        return;
    if (t->n_candidates >= CANDIDATES_MAX) {
        x->ops->overflow(m, t);
        return;
    }
    struct candidate *c = xcalloc(1, sizeof *c);
    c->dataset = xstrdup(dataset);
    c->name = xstrdup(name);
    *t->last = c;
    t->last = &c->next;
    t->n_candidates++;
    x->n++;
    event_active(x->turn_ev, EV_TIMEOUT, 0);
}

/* ---- later ---- */

static void later_free(struct later *l)
{
    LIST_REMOVE(l, others);
    event_free(l->ev);
    free(l->tenant);
    free(l->dataset);
    free(l->name);
    free(l);
}

static void on_later(evutil_socket_t fd, short what, void *arg)
{
    struct later *l = arg;
    (void)fd;
    (void)what;
    candidates_saw(l->m, tenant_get(l->m, l->tenant), l->dataset, l->name);
    later_free(l);
}

void candidates_saw_later(struct batchmgr *m, const struct tenant *t, const char *dataset, const char *name, int64_t ms)
{
    struct later *l = xmalloc(sizeof *l);
    *l = (struct later){.m = m, .tenant = xstrdup(t->id), .dataset = xstrdup(dataset), .name = xstrdup(name)};
    l->ev = event_new(m->base, -1, 0, on_later, l);
    LIST_INSERT_HEAD(&m->candidates->laters, l, others);
    timer_set(l->ev, ms);
}

/* ---- turns ---- */

static bool may_claim(struct tenant *t)
{
    return t->first && t->n_claiming < CANDIDATES_CLAIMING && !tenant_is_slowed(t);
}

static void turn_soon(struct candidates *x)
{
    if (x->n)
        timer_set(x->turn_ev, 0); /* by a timer, so that events that came in meanwhile go first */
}

void candidates_claimed(struct batchmgr *m, struct tenant *t)
{
    if (t->n_claiming-- == CANDIDATES_CLAIMING)
        turn_soon(m->candidates);
}

static void look_at_some(struct batchmgr *m, struct tenant *t)
{
    struct candidates *x = m->candidates;
    for (int n = 0; n < CLAIMS_PER_TURN && may_claim(t); n++) {
        struct candidate *c = take_first(x, t);
        if (candidates_are_paused(m))
            x->missed = true; /* the walk after the pause finds it again */
        else
            x->missed |= !x->ops->claim(m, t, c->dataset, c->name);
        free_candidate(c);
    }
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    struct candidates *x = m->candidates;
    bool more = false, slowed = false;
    size_t i = 0;
    (void)fd;
    (void)what;
    for (struct tenant *t; (t = map_next(&m->tenants, &i));) {
        look_at_some(m, t);
        more |= may_claim(t);
        slowed |= candidates_are_slowed(t);
        x->ops->room(m, t);
    }
    if (more)
        turn_soon(x);
    else if (slowed)
        timer_set(x->turn_ev, SLOWED_MS);
}

void candidates_start(struct batchmgr *m, const struct candidates_ops *ops)
{
    struct candidates *x = m->candidates = xcalloc(1, sizeof *x);
    x->ops = ops;
    x->turn_ev = event_new(m->base, -1, 0, on_turn, m);
}

void candidates_stop(struct batchmgr *m)
{
    struct candidates *x = m->candidates;
    size_t i = 0;
    if (!x)
        return;
    while (!LIST_EMPTY(&x->laters))
        later_free(LIST_FIRST(&x->laters));
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        while (t->first)
            free_candidate(take_first(x, t));
    event_free(x->turn_ev);
    free(x);
    m->candidates = NULL;
}
