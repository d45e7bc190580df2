#include "world.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST = 40 };

const char *const breakage_names[N_BREAKAGES] = {"sound", "loses", "twice", "fifo", "starves", "crowds"};

const struct fleet_settings fleet_defaults = {
    .seed = 1,
    .cells = 16,
    .tenants = 320,
    .shard = 1,
    .placement = SHUFFLED,
    .cores = 16,
    .load = 0.6,
    .run_s = 10,
    .skew = 0.8,
    .seconds = 1800,
    .repair_s = 600,
    .fence_s = 30,
    .fails = -1,
    .detect_s = 60,
    .drains = -1,
    .moves_at_once = 4,
    .move_bytes_per_s = 100e6,
    .move_pause_s = 3,
    .tenant_bytes = 2e9,
};

/* ---- what is there at first ---- */

static void set_tenant(struct world *w, int i, double rates)
{
    const struct fleet_settings *s = w->s;
    struct tenant *t = &w->tenants[i];
    const bool fifo = s->breakage == FIFO;
    snprintf(t->id, sizeof t->id, "t%07d", i);
    t->rate = i ? w->quiet_rate * pow(i, -s->skew) / rates : 0;
    t->bytes = s->tenant_bytes * exp(rng_normal(&w->rng) - 0.5);
    t->n_shard = shard_of(s->placement, s->cells, s->shard, i, &w->rng, t->shard);
    t->none = t->waits_since = -1;
    t->held_end = &t->held;
    for (int k = 0; k < t->n_shard; k++)
        w->cells[t->shard[k]].n_tenants++;
    for (int c = 0; c < s->cells; c++) { /* one that is moved may come to be in any */
        struct fair_queue *q = w->cells[c].q;
        int64_t weight = i == 1 && s->weight_of_second > 0 ? (int64_t)s->weight_of_second : 1;
        bool mine = s->drains >= 0 || s->evacuates;
        for (int k = 0; k < t->n_shard && !mine; k++)
            mine = t->shard[k] == c;
        if (!mine)
            continue;
        fair_queue_set_tenant(q, fifo ? "everybody" : t->id, weight, INT64_MAX);
        fair_queue_set_app(q, fifo ? "everybody" : t->id, "app", 0, &(struct demand){FAIR_QUEUE_LOCAL, 1, 0});
    }
}

static void world_init(struct world *w, const struct fleet_settings *s)
{
    double rates = 0, mean = s->run_s;
    *w = (struct world){.s = s, .rng = {s->seed * 7919 + 17}, .both_until = INFINITY};
    w->quiet_rate = s->load * s->cells * s->cores / mean;
    w->happens_at = s->seconds / 4;
    w->cells = xcalloc((size_t)s->cells, sizeof *w->cells);
    w->tenants = xcalloc((size_t)s->tenants, sizeof *w->tenants);
    w->wave = xcalloc((size_t)s->tenants, sizeof *w->wave);
    w->pauses = xcalloc((size_t)s->tenants, sizeof *w->pauses);
    for (int c = 0; c < s->cells; c++) {
        w->cells[c].up = true;
        w->cells[c].q = fair_queue_new(s->breakage == CROWDS ? s->cores + 1 : s->cores, INT64_MAX);
    }
    for (int i = 1; i < s->tenants; i++)
        rates += pow(i, -s->skew);
    for (int i = 0; i < s->tenants; i++)
        set_tenant(w, i, rates);
}

static void world_fini(struct world *w)
{
    for (int c = 0; c < w->s->cells; c++)
        fair_queue_free(w->cells[c].q);
    for (size_t i = 0; i < w->n_jobs; i++)
        free(w->jobs[i]);
    free(w->jobs);
    free(w->waits);
    free(w->early_waits);
    free(w->pauses);
    free(w->wave);
    free(w->cells);
    free(w->tenants);
    free(w->heap);
}

/* ---- files ---- */

static struct job *make_job(struct world *w, int tenant)
{
    struct job *j = xcalloc(1, sizeof *j);
    double sigma = 1, run = w->s->run_s * exp(rng_normal(&w->rng) * sigma - sigma * sigma / 2);
    w->jobs = xgrow(w->jobs, w->n_jobs, sizeof *w->jobs);
    w->waits = xgrow(w->waits, w->n_jobs, sizeof *w->waits);
    w->early_waits = xgrow(w->early_waits, w->n_jobs, sizeof *w->early_waits);
    w->jobs[w->n_jobs] = j;
    snprintf(j->f.file_id, sizeof j->f.file_id, "%026zu", w->n_jobs++);
    j->f.tenant = w->s->breakage == FIFO ? (char *)"everybody" : w->tenants[tenant].id;
    j->f.dataset = (char *)"d";
    j->tenant = tenant;
    j->arrived = w->t;
    j->early = w->t < w->happens_at * 0.9;
    j->run_s = fmin(run, 10 * w->s->run_s);
    w->f.files++;
    return j;
}

static double rate_of(const struct world *w, int i)
{
    const struct fleet_settings *s = w->s;
    bool noisy = i == 0 && w->t >= w->happens_at && w->t < s->seconds - w->happens_at;
    if (noisy && s->noise == FLOOD)
        return 2 * s->cells * s->cores / s->run_s;
    if (noisy && s->noise == POISON)
        return 1 / s->run_s;
    return w->tenants[i].rate;
}

/* By thinning (Lewis and Shedler 1979) where the rate changes. */
static void plan_arrival(struct world *w, int i)
{
    double most = i || w->s->noise == QUIET ? w->tenants[i].rate
                                            : 2 * w->s->cells * w->s->cores / w->s->run_s; /* the flood's; more than the poison's */
    double t = most > 0 ? w->t + rng_exponential(&w->rng, 1 / most) : INFINITY;
    if (t < w->s->seconds)
        post(w, t, ARRIVE, i, most > w->tenants[i].rate, NULL);
}

static void on_arrive(struct world *w, const struct event *e)
{
    double most = 2 * w->s->cells * w->s->cores / w->s->run_s;
    plan_arrival(w, e->a);
    if (e->b && rng_uniform(&w->rng) * most > rate_of(w, e->a))
        return;
    submit(w, make_job(w, e->a));
}

/* Tenants 0 and 1 hand in so much at once that both have something waiting until the end. */
static void backlog(struct world *w)
{
    int n = (int)(w->s->seconds * w->s->cores * w->s->cells / w->s->run_s);
    for (int i = 0; i < 2 * n; i++)
        submit(w, make_job(w, i % 2));
}

/* ---- a run ---- */

static void handle(struct world *w, const struct event *e)
{
    switch (e->kind) {
    case ARRIVE:
        on_arrive(w, e);
        break;
    case RUN_ENDS:
        on_run_ends(w, e);
        break;
    case FAILS:
        cell_fails(w, e->a);
        break;
    case REPAIRED:
        cell_repaired(w, e->a);
        break;
    case FENCED:
        submit(w, e->job);
        break;
    case EVACUATE:
    case DRAIN:
        wave_begin(w, e->a);
        break;
    case COPIED:
        on_copied(w, e->a);
        break;
    case PAUSED:
        on_paused(w, e->a);
        break;
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *v, size_t n, double q)
{
    if (!n)
        return 0;
    qsort(v, n, sizeof *v, by_value);
    return v[(size_t)((double)(n - 1) * q)];
}

static void look_at_tenants(struct world *w)
{
    struct fleet_figures *f = &w->f;
    int quiet = w->s->tenants - 1;
    for (int i = 1; i < w->s->tenants && quiet; i++) {
        struct tenant *t = &w->tenants[i];
        if (t->none >= 0)
            t->down_s = fmax(t->down_s, w->t - t->none);
        f->hit += (t->down_s > 0) / (double)quiet;
        f->reduced += t->lost_some / (double)quiet;
        f->down_s = fmax(f->down_s, t->down_s);
    }
}

static void finish(struct world *w)
{
    struct fleet_figures *f = &w->f;
    for (size_t i = 0; i < w->n_jobs; i++)
        f->lost += !w->jobs[i]->ended;
    f->wait_max_s = quantile(w->waits, w->n_waits, 1);
    f->wait_p50_s = quantile(w->waits, w->n_waits, 0.5);
    f->wait_p99_s = quantile(w->waits, w->n_waits, 0.99);
    f->alone_p99_s = quantile(w->early_waits, w->n_early, 0.99);
    f->pause_p99_s = quantile(w->pauses, w->n_pauses, 0.99);
    f->ratio = w->served[0] > 0 ? w->served[1] / w->served[0] : 0;
    look_at_tenants(w);
}

struct fleet_figures fleet_run(const struct fleet_settings *s)
{
    struct world w;
    struct event e;
    double counted = 0;
    world_init(&w, s);
    if (s->backlogged)
        backlog(&w);
    for (int i = 0; i < s->tenants && !s->backlogged; i++)
        plan_arrival(&w, i);
    if (s->fails >= 0)
        post(&w, w.happens_at, FAILS, s->fails, 0, NULL);
    if (s->drains >= 0)
        post(&w, w.happens_at, DRAIN, s->drains, 0, NULL);
    while (next_event(&w, &e) && e.t < LONGEST * s->seconds) {
        w.t = e.t;
        if (!counted && w.t >= s->seconds) { /* how full they were, by the time that nothing more comes */
            counted = w.t;
            for (int c = 0; c < s->cells; c++) {
                cell_count(&w, &w.cells[c]);
                w.f.busiest = fmax(w.f.busiest, w.cells[c].busy_s / (s->cores * w.t));
            }
        }
        handle(&w, &e);
    }
    finish(&w);
    world_fini(&w);
    return w.f;
}

const char *fleet_verdict(const struct fleet_settings *s, const struct fleet_figures *f)
{
    if (f->together)
        return "a file ran in two places at once";
    if (f->twice)
        return "a file ended twice";
    if (f->over)
        return "a cell ran more than it has cores for";
    if (f->lost)
        return "a file never ended";
    if (f->starved)
        return "a tenant with files queued was passed over";
    double want = s->weight_of_second > 0 ? s->weight_of_second : 1;
    if (s->backlogged && fabs(f->ratio / want - 1) > 0.05)
        return "service of two tenants that always wait is not as their weights";
    return NULL;
}
