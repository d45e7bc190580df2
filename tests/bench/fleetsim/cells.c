/* Cells: files are queued, started and end; cells fail and come back.
 *
 * A run takes one core. What ran in a cell that failed is started again in another cell of its tenant's once it is proven that
 * nothing of it is left (fence_s), or in the same one when that is back: what the platform says of a node that is lost
 * (docs/cluster.md). */
#include "world.h"

#include <math.h>
#include <string.h>

enum { POISON_TRIES = 6 /* three that cost no attempt, and three attempts: docs/files.md */ };

static const char *name_for_queue(const struct world *w, const struct tenant *t)
{
    return w->s->breakage == FIFO ? "everybody" : t->id;
}

void cell_count(struct world *w, struct cell *c)
{
    c->busy_s += c->n_running * (w->t - c->since);
    c->since = w->t;
}

bool has_cell(const struct world *w, const struct tenant *t)
{
    for (int i = 0; i < t->n_shard; i++)
        if (w->cells[t->shard[i]].up)
            return true;
    return false;
}

void look_for_down(struct world *w, struct tenant *t)
{
    bool has = has_cell(w, t);
    if (!has && t->none < 0) {
        t->none = w->t;
    } else if (has && t->none >= 0) {
        t->down_s = fmax(t->down_s, w->t - t->none);
        t->none = -1;
    }
}

static void hold(struct tenant *t, struct job *j)
{
    j->chain = NULL;
    *t->held_end = j;
    t->held_end = &j->chain;
}

/* The one of its cells with the least in it. */
static int best_cell(const struct world *w, const struct tenant *t)
{
    int best = -1;
    double least = INFINITY;
    for (int i = 0; i < t->n_shard; i++) {
        const struct cell *c = &w->cells[t->shard[i]];
        double n = c->up ? (double)(fair_queue_n_queued(c->q, NULL) + (size_t)c->n_running) : INFINITY;
        if (n < least) {
            least = n;
            best = t->shard[i];
        }
    }
    return best;
}

void submit(struct world *w, struct job *j)
{
    struct tenant *t = &w->tenants[j->tenant];
    int cell = t->stopped ? -1 : best_cell(w, t);
    if (cell < 0) {
        hold(t, j);
        return;
    }
    j->cell = cell;
    j->queued = true;
    if (t->waits_since < 0)
        t->waits_since = w->t;
    fair_queue_add(w->cells[cell].q, "app", &j->f);
    dispatch(w, cell);
}

void submit_held(struct world *w, struct tenant *t)
{
    struct job *j = t->held;
    t->held = NULL;
    t->held_end = &t->held;
    for (struct job *next; j; j = next) {
        next = j->chain;
        submit(w, j);
    }
}

static void note_start(struct world *w, struct tenant *t, struct job *j)
{
    double wait = w->t - j->arrived;
    if (j->tenant > 0 && j->run == 1) {
        w->waits[w->n_waits++] = wait;
        if (j->early)
            w->early_waits[w->n_early++] = wait;
    }
    /* Who has something queued is served after all others once, at the latest; twice that is not to happen. */
    if (t->waits_since >= 0 && w->s->noise == QUIET && w->s->fails < 0) {
        double bound = 2 * (w->s->tenants / w->s->cores + 1) * w->longest_run + w->s->move_pause_s;
        w->f.starved += w->t - fmax(t->waits_since, t->last_start) > bound;
    }
    t->last_start = w->t;
}

static bool queues(const struct world *w, const struct tenant *t)
{
    for (int i = 0; i < t->n_shard; i++)
        if (fair_queue_n_queued(w->cells[t->shard[i]].q, name_for_queue(w, t)))
            return true;
    return false;
}

static void start(struct world *w, int cell, struct job *j)
{
    struct cell *c = &w->cells[cell];
    struct tenant *t = &w->tenants[j->tenant];
    cell_count(w, c);
    w->f.together += j->running;
    w->f.twice += j->ended;
    j->queued = false;
    j->running = true;
    j->started = w->t;
    j->run++;
    j->chain = c->running;
    c->running = j;
    c->n_running++;
    t->n_running++;
    w->f.over += c->n_running > (int)w->s->cores;
    w->longest_run = fmax(w->longest_run, j->run_s);
    note_start(w, t, j);
    if (!queues(w, t))
        t->waits_since = -1;
    post(w, w->t + j->run_s, RUN_ENDS, cell, j->run, j);
    if (w->s->noise == POISON && j->tenant == 0 && w->t < w->s->seconds - w->happens_at) /* then somebody mended it */
        post(w, w->t + fmin(j->run_s, 1), FAILS, cell, 0, NULL);
}

void dispatch(struct world *w, int cell)
{
    struct cell *c = &w->cells[cell];
    const char *app;
    struct demand demand;
    struct file *f;
    while (c->up && (f = fair_queue_pick(c->q, &app, &demand)))
        start(w, cell, (struct job *)f);
}

static void unchain(struct cell *c, struct job *j)
{
    struct job **at = &c->running;
    while (*at && *at != j)
        at = &(*at)->chain;
    if (*at)
        *at = j->chain;
}

/* Its core is free again. */
static void release(struct world *w, int cell, struct job *j)
{
    struct cell *c = &w->cells[cell];
    struct tenant *t = &w->tenants[j->tenant];
    double ran = w->t - j->started;
    cell_count(w, c);
    unchain(c, j);
    c->n_running--;
    t->n_running--;
    j->running = false;
    t->served_s += ran;
    if (w->t <= w->both_until && j->tenant < 2)
        w->served[j->tenant] += ran;
    fair_queue_release(c->q, j->f.tenant, &(struct demand){FAIR_QUEUE_LOCAL, 1, 0}, (int64_t)(ran * 1000));
}

void on_run_ends(struct world *w, const struct event *e)
{
    struct job *j = e->job;
    struct tenant *t = &w->tenants[j->tenant];
    if (j->run != e->b || !j->running) {
        w->f.twice += w->s->breakage == TWICE && j->ended; /* the run that nobody fenced ends, too */
        j->ended |= w->s->breakage == TWICE;
        return;
    }
    release(w, e->a, j);
    w->f.twice += j->ended;
    j->ended = true;
    w->f.ended++;
    w->f.ended_s = w->t;
    if (j->tenant < 2 && w->s->backlogged && !queues(w, t))
        w->both_until = fmin(w->both_until, w->t);
    dispatch(w, e->a);
    if (t->stopped && !t->n_running)
        on_tenant_idle(w, t);
}

/* ---- failure ---- */

struct drained {
    struct world *w;
    struct tenant *only; /* NULL: anybody's */
};

static void take_back(void *arg, struct file *f)
{
    struct drained *d = arg;
    struct job *j = (struct job *)f;
    j->queued = false;
    hold(&d->w->tenants[j->tenant], j);
}

void hold_queued(struct world *w, struct tenant *t, int cell)
{
    struct drained d = {w, t};
    fair_queue_drain_tenant(w->cells[cell].q, t->id, take_back, &d);
    t->waits_since = -1;
}

static void lose_runs(struct world *w, int cell)
{
    struct cell *c = &w->cells[cell];
    while (c->running) {
        struct job *j = c->running;
        release(w, cell, j);
        if (w->s->breakage == LOSES)
            continue;
        if (w->s->noise == POISON && j->tenant == 0 && j->run >= POISON_TRIES) {
            j->ended = true; /* quarantined */
            w->f.ended++;
            continue;
        }
        w->f.reruns++;
        post(w, w->t + (w->s->breakage == TWICE ? 0 : w->s->fence_s), FENCED, cell, 0, j);
    }
}

void cell_fails(struct world *w, int cell)
{
    struct cell *c = &w->cells[cell];
    struct drained d = {w, NULL};
    if (!c->up)
        return;
    lose_runs(w, cell);
    c->up = false;
    fair_queue_drain(c->q, take_back, &d);
    for (int i = 0; i < w->s->tenants; i++) {
        struct tenant *t = &w->tenants[i];
        for (int k = 0; k < t->n_shard; k++)
            if (t->shard[k] == cell) {
                t->lost_some = true;
                t->waits_since = -1;
                look_for_down(w, t);
            }
        if (!t->stopped)
            submit_held(w, t);
    }
    if (w->s->evacuates)
        post(w, w->t + w->s->detect_s, EVACUATE, cell, 0, NULL);
    post(w, w->t + w->s->repair_s, REPAIRED, cell, 0, NULL);
}

void cell_repaired(struct world *w, int cell)
{
    struct cell *c = &w->cells[cell];
    cell_count(w, c);
    c->up = true;
    for (int i = 0; i < w->s->tenants; i++) {
        struct tenant *t = &w->tenants[i];
        bool mine = false;
        for (int k = 0; k < t->n_shard; k++)
            mine |= t->shard[k] == cell;
        if (!mine)
            continue;
        look_for_down(w, t);
        for (int k = 0; k < t->n_shard; k++) /* what waits in its other cells is shared out anew */
            if (t->shard[k] != cell)
                hold_queued(w, t, t->shard[k]);
        if (!t->stopped)
            submit_held(w, t);
    }
}
