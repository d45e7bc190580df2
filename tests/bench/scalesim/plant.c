/* The plant. Messages of an app arrive by the load's rate, wait in one queue, and are settled by instances one at a time, each for
 * a log-normal time of mean 1/mu. An instance takes a while to start; told to go, it finishes what it has first; idle ones go
 * first. A database may take only so much in all: then all are slower. Figures go out every report_s, 5 % early or late, 2 % are
 * lost; they are made of counters, so the next one covers a lost one's time, too. A lease is LEASE_S: what a hung instance holds,
 * or what nobody can settle, comes back then, DELIVERIES times at most; the hung instance is replaced. */
#include "scalesim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AGES = 3000, EVENTS = 4096, DELIVERIES = 5, QUEUE = 1 << 19 };
#define SAMPLE_S  0.1
#define LEASE_S   30.0
#define LOSS      0.02
#define JITTER    0.05
#define WARM_UP_S 60 /* reversals count after that: each run begins with one instance, and what piles up until more are there */

struct message {
    double arrived;
    int deliveries; /* of one that nobody can settle; 0: any other */
};

struct instance {
    enum { ABSENT, STARTING, IDLE, BUSY, HUNG } state;
    bool going;
    unsigned generation; /* events of an earlier one are none of ours */
    double since;        /* busy; accounted until then */
    struct message at;
};

enum kind { ARRIVE, STARTED, DONE, LEASE_OVER, REPORT, SAMPLE, HANG, STUCK };

struct event {
    double t;
    enum kind kind;
    int app, instance;
    unsigned generation;
};

struct app {
    struct world *w;
    double rate[MAX_SECONDS], peak_rate, mean;
    struct message *queue; /* a ring */
    size_t head, tail;
    struct instance v[MAX_INSTANCES];
    int wanted;
    void *state;
    struct seen seen;
    double arrived, acked, busy_s, reported; /* since the last report */
    /* figures */
    double slo_s, instance_s, counted, peak;
    int reversals, actions, direction, plateau_most, plateau_last;
    double unsettled_s;
    struct {
        double t;
        int n;
    } orders[4096];
    int n_orders;
    double ages[AGES]; /* histogram, 0.1 s each */
};

struct world {
    const struct load *load;
    const struct policy *policy;
    int setting;
    struct rng rng;
    double t;
    struct event heap[EVENTS];
    int n_events;
    struct app apps[MAX_APPS];
    int n_apps;
};

struct scale_settings our_settings;
bool timeline;

/* ---- events: a binary heap ---- */

static void swap(struct event *a, struct event *b)
{
    struct event e = *a;
    *a = *b;
    *b = e;
}

static void post(struct world *w, double t, enum kind kind, int app, int instance, unsigned generation)
{
    int i = w->n_events++;
    if (w->n_events >= EVENTS)
        abort();
    w->heap[i] = (struct event){t, kind, app, instance, generation};
    for (; i && w->heap[(i - 1) / 2].t > w->heap[i].t; i = (i - 1) / 2)
        swap(&w->heap[i], &w->heap[(i - 1) / 2]);
}

static struct event take(struct world *w)
{
    struct event first = w->heap[0];
    w->heap[0] = w->heap[--w->n_events];
    for (int i = 0;;) {
        int l = 2 * i + 1, least = i;
        for (int k = l; k < l + 2 && k < w->n_events; k++)
            if (w->heap[k].t < w->heap[least].t)
                least = k;
        if (least == i)
            return first;
        swap(&w->heap[i], &w->heap[least]);
        i = least;
    }
}

/* ---- instances ---- */

static int count(const struct app *a, int from)
{
    int n = 0;
    for (int i = 0; i < MAX_INSTANCES; i++)
        n += (int)a->v[i].state >= from && !a->v[i].going;
    return n;
}

static int in_use(const struct world *w)
{
    int n = 0;
    for (int k = 0; k < w->n_apps; k++)
        for (int i = 0; i < MAX_INSTANCES; i++)
            n += w->apps[k].v[i].state != ABSENT;
    return n;
}

/* Instance-seconds up to now. */
static void account(struct app *a)
{
    int n = 0;
    for (int i = 0; i < MAX_INSTANCES; i++)
        n += a->v[i].state != ABSENT;
    a->instance_s += n * (a->w->t - a->counted);
    a->counted = a->w->t;
}

static void begin(struct app *a, int i)
{
    struct world *w = a->w;
    struct instance *v = &a->v[i];
    int busy = 0;
    if (v->state != IDLE || a->head == a->tail)
        return;
    v->state = BUSY;
    v->since = w->t;
    v->at = a->queue[a->head++ % QUEUE];
    if (v->at.deliveries) {
        post(w, w->t + LEASE_S, LEASE_OVER, (int)(a - w->apps), i, v->generation);
        return;
    }
    for (int k = 0; k < MAX_INSTANCES; k++)
        busy += a->v[k].state == BUSY;
    double slow = w->load->ceiling_per_s > 0 ? fmax(1, busy * w->load->mu / w->load->ceiling_per_s) : 1, s = w->load->spread;
    post(w, w->t + slow / w->load->mu * exp(rng_normal(&w->rng) * s - s * s / 2), DONE, (int)(a - w->apps), i, v->generation);
}

static void serve(struct app *a)
{
    for (int i = 0; i < MAX_INSTANCES && a->head != a->tail; i++)
        begin(a, i);
}

static void leave(struct app *a, struct instance *v)
{
    account(a);
    v->generation++;
    v->state = ABSENT;
    v->going = false;
}

static void start_some(struct app *a)
{
    struct world *w = a->w;
    const struct load *l = w->load;
    for (int have = count(a, STARTING), i = 0; have < a->wanted && i < MAX_INSTANCES; i++) {
        if (a->v[i].state != ABSENT)
            continue;
        if (l->slots && in_use(w) >= l->slots)
            return;
        account(a);
        a->v[i].state = STARTING;
        post(w, w->t + l->start_min_s + (l->start_max_s - l->start_min_s) * rng_uniform(&w->rng), STARTED, (int)(a - w->apps), i,
             a->v[i].generation);
        have++;
    }
}

static void stop_some(struct app *a)
{
    static const int who[] = {STARTING, IDLE, BUSY};
    for (int k = 0, have = count(a, STARTING); k < 3 && have > a->wanted; k++)
        for (int i = 0; have > a->wanted && i < MAX_INSTANCES; i++)
            if ((int)a->v[i].state == who[k] && !a->v[i].going) {
                if (who[k] == BUSY)
                    a->v[i].going = true;
                else
                    leave(a, &a->v[i]);
                have--;
            }
}

static void order(struct app *a, int n)
{
    n = n < 0 ? 0 : n > MAX_COUNT ? MAX_COUNT : n;
    if (n != a->wanted) {
        int direction = n > a->wanted ? 1 : -1;
        a->actions++;
        a->reversals += a->direction && direction != a->direction;
        a->direction = a->w->t < WARM_UP_S ? 0 : direction;
        a->wanted = n;
        if (a->n_orders < 4096) {
            a->orders[a->n_orders].t = a->w->t;
            a->orders[a->n_orders++].n = n;
        }
    }
    stop_some(a);
}

/* ---- messages ---- */

static void add(struct app *a, struct message m)
{
    if (a->tail - a->head < QUEUE)
        a->queue[a->tail++ % QUEUE] = m;
}

static void back(struct app *a, struct message m)
{
    a->queue[--a->head % QUEUE] = m;
}

static double rate_at(const struct app *a, double t)
{
    int s = (int)t;
    return s < a->w->load->seconds ? a->rate[s] : 0;
}

/* The next arrival by thinning (Lewis and Shedler 1979) of a process at the peak rate. */
static void plan_arrival(struct app *a)
{
    struct world *w = a->w;
    double t = w->t;
    if (a->peak_rate <= 0)
        return;
    double mean_burst = w->load->arrivals == HEAVY_TAIL ? 3 : 1; /* Pareto of index 1.5 from 1 */
    do
        t += rng_exponential(&w->rng, mean_burst / a->peak_rate);
    while (t < w->load->seconds && rng_uniform(&w->rng) * a->peak_rate > rate_at(a, t));
    post(w, t, ARRIVE, (int)(a - w->apps), 0, 0);
}

static void on_arrive(struct app *a)
{
    struct world *w = a->w;
    int n = 1;
    if (w->load->arrivals == HEAVY_TAIL)
        n = (int)fmin(pow(1 - rng_uniform(&w->rng), -1 / 1.5), 200);
    a->arrived += n;
    for (; n; n--)
        add(a, (struct message){w->t, 0});
    plan_arrival(a);
    serve(a);
}

static void note_age(struct app *a, double age)
{
    int slot = (int)(age * 10);
    a->ages[slot < AGES ? slot : AGES - 1]++;
}

static void on_done(struct app *a, int i)
{
    struct instance *v = &a->v[i];
    a->busy_s += a->w->t - v->since;
    a->acked++;
    note_age(a, a->w->t - v->at.arrived);
    v->state = IDLE;
    v->generation++;
    if (v->going)
        leave(a, v);
    else
        begin(a, i);
    start_some(a);
}

static void on_lease_over(struct app *a, int i)
{
    struct instance *v = &a->v[i];
    struct message m = v->at;
    if (v->state == BUSY)
        a->busy_s += a->w->t - v->since;
    if (!m.deliveries || ++m.deliveries <= DELIVERIES)
        back(a, m);
    leave(a, v); /* hung, or by now thought to be: replaced */
    start_some(a);
    serve(a);
}

static void on_hang(struct app *a)
{
    for (int i = 0; i < MAX_INSTANCES; i++)
        if (a->v[i].state == BUSY) {
            a->v[i].state = HUNG;
            a->v[i].generation++;
            post(a->w, a->w->t + LEASE_S, LEASE_OVER, (int)(a - a->w->apps), i, a->v[i].generation);
            return;
        }
    post(a->w, a->w->t + 0.1, HANG, (int)(a - a->w->apps), 0, 0); /* nobody is busy right now */
}

/* ---- reports and decisions ---- */

static void on_report(struct app *a)
{
    struct world *w = a->w;
    const struct load *l = w->load;
    struct seen *s = &a->seen;
    bool gap = w->t >= l->gap_s && w->t < l->gap_end_s;
    s->fresh = !gap && rng_uniform(&w->rng) >= LOSS;
    post(w, w->t + l->report_s * (1 + JITTER * (2 * rng_uniform(&w->rng) - 1)), REPORT, (int)(a - w->apps), 0, 0);
    if (s->fresh) {
        double dt = w->t - a->reported;
        int leased = 0;
        for (int i = 0; i < MAX_INSTANCES; i++) {
            leased += a->v[i].state == BUSY || a->v[i].state == HUNG;
            if (a->v[i].state == BUSY) {
                a->busy_s += w->t - a->v[i].since;
                a->v[i].since = w->t;
            }
        }
        s->at = w->t;
        s->ingress_per_s = a->arrived / dt;
        s->ready = (double)(a->tail - a->head);
        s->leased = leased;
        s->instances = count(a, IDLE);
        s->busy = s->instances ? fmin(1, a->busy_s / dt / s->instances) : 0;
        bool lies = l->lies > 0 && w->t >= l->lie_s && w->t < l->lie_end_s;
        s->acks_per_busy_s = a->busy_s > 0.01 * dt ? a->acked / a->busy_s * (lies ? l->lies : 1) : NAN;
        a->arrived = a->acked = a->busy_s = 0;
        a->reported = w->t;
    }
    s->t = w->t;
    s->wanted = a->wanted;
    struct truth truth = {a->rate, l->seconds, a->mean, l};
    int n = w->policy->decide(a->state, w->setting, s, &truth);
    if (n >= 0)
        order(a, n);
    for (int k = 0; k < w->n_apps; k++)
        start_some(&w->apps[k]);
}

static void on_sample(struct app *a)
{
    struct world *w = a->w;
    double backlog = (double)(a->tail - a->head), oldest = 0;
    for (size_t i = a->head; i < a->tail && i < a->head + 8; i++) /* one that nobody can settle says nothing about the others */
        if (!a->queue[i % QUEUE].deliveries) {
            oldest = w->t - a->queue[i % QUEUE].arrived;
            break;
        }
    a->peak = fmax(a->peak, backlog);
    if (timeline && (int)(w->t / 2) != (int)((w->t - SAMPLE_S) / 2))
        printf("%s,%s,%d,%.0f,%.1f,%d,%d,%.0f,%.1f\n", w->load->name, w->policy->name, (int)(a - w->apps), w->t, rate_at(a, w->t),
               a->wanted, count(a, IDLE), backlog, oldest);
    if (oldest > SLO_S)
        a->slo_s += SAMPLE_S;
    if (w->load->step_s && w->t >= w->load->step_s && w->t < w->load->step_end_s && oldest > SLO_S)
        a->unsettled_s = w->t - w->load->step_s;
    account(a);
    post(w, w->t + SAMPLE_S, SAMPLE, (int)(a - w->apps), 0, 0);
}

static void handle(struct world *w, const struct event *e)
{
    struct app *a = &w->apps[e->app];
    struct instance *v = &a->v[e->instance];
    bool mine = v->generation == e->generation;
    switch (e->kind) {
    case ARRIVE:
        on_arrive(a);
        break;
    case STARTED:
        if (mine && v->state == STARTING) {
            v->state = IDLE;
            begin(a, e->instance);
        }
        break;
    case DONE:
        if (mine)
            on_done(a, e->instance);
        break;
    case LEASE_OVER:
        if (mine)
            on_lease_over(a, e->instance);
        break;
    case REPORT:
        on_report(a);
        break;
    case SAMPLE:
        on_sample(a);
        break;
    case HANG:
        on_hang(a);
        break;
    case STUCK:
        add(a, (struct message){w->t, 1});
        serve(a);
        break;
    }
}

/* ---- a run ---- */

static double age_p99(const struct app *a)
{
    double sum = 0, at = 0;
    for (int i = 0; i < AGES; i++)
        sum += a->ages[i];
    for (int i = 0; i < AGES; i++)
        if ((at += a->ages[i]) >= sum * 0.99)
            return i / 10.0;
    return 0;
}

/* Of the step: how far the count went over where it came to rest, and when it last was further than one from that. */
static void judge_step(const struct app *a, struct figures *f)
{
    const struct load *l = a->w->load;
    int rest = 1, most = 0;
    for (int i = 0; i < a->n_orders && a->orders[i].t < l->step_end_s; i++)
        rest = a->orders[i].n;
    for (int i = 0; i < a->n_orders && a->orders[i].t < l->step_end_s; i++) {
        if (a->orders[i].t < l->step_s)
            continue;
        most = a->orders[i].n > most ? a->orders[i].n : most;
        int before = i ? a->orders[i - 1].n : 1;
        if (abs(before - rest) > 1)
            f->settling_s = fmax(f->settling_s, a->orders[i].t - l->step_s);
    }
    f->overshoot = most > rest ? most - rest : 0;
    f->settling_s = fmax(f->settling_s, a->unsettled_s);
}

static void app_init(struct app *a, struct world *w, int k, uint64_t seed)
{
    const struct load *l = w->load;
    struct rng shape = {seed * 2 + 2};
    a->w = w;
    a->queue = malloc(QUEUE * sizeof *a->queue);
    a->state = calloc(1, w->policy->state_size + 1);
    if (!a->queue || !a->state)
        abort();
    l->make(a->rate, l->seconds, &shape);
    if (k) /* the other tenant's turn comes when the first one's is over */
        for (int t = 0; t < l->seconds; t++)
            a->rate[t] = a->w->apps[0].rate[(t + 150) % l->seconds];
    for (int t = 0; t < l->seconds; t++) {
        a->peak_rate = fmax(a->peak_rate, a->rate[t]);
        a->mean += a->rate[t] / l->seconds;
    }
    a->wanted = 1;
    a->v[0].state = IDLE;
    a->seen = (struct seen){.at = 0, .acks_per_busy_s = NAN, .instances = 1, .min = l->to_zero ? 0 : 1, .max = MAX_COUNT};
    plan_arrival(a);
    post(w, l->report_s, REPORT, k, 0, 0);
    post(w, SAMPLE_S, SAMPLE, k, 0, 0);
    if (l->stuck_s)
        post(w, l->stuck_s, STUCK, k, 0, 0);
    if (l->hung_s)
        post(w, l->hung_s, HANG, k, 0, 0);
}

struct figures plant_run(const struct policy *p, int setting, const struct load *l, uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);
    struct figures f = {0};
    if (!w)
        abort();
    w->load = l;
    w->policy = p;
    w->setting = setting;
    w->rng.s = seed * 2 + 1;
    w->n_apps = l->contenders ? l->contenders : 1;
    for (int k = 0; k < w->n_apps; k++)
        app_init(&w->apps[k], w, k, seed);
    for (;;) {
        struct event e = take(w);
        if (e.t >= l->seconds)
            break;
        w->t = e.t;
        handle(w, &e);
    }
    w->t = l->seconds;
    for (int k = 0; k < w->n_apps; k++) {
        struct app *a = &w->apps[k];
        account(a);
        f.slo_s += a->slo_s;
        f.instance_s += a->instance_s;
        f.peak = fmax(f.peak, a->peak);
        f.age_p99_s = fmax(f.age_p99_s, age_p99(a));
        f.reversals += a->reversals;
        f.actions += a->actions;
        if (l->step_s)
            judge_step(a, &f);
        free(a->queue);
        free(a->state);
    }
    free(w);
    return f;
}
