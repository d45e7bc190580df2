/* What the parts of the simulator share: the fleet as it is at a moment. */
#ifndef FLEETSIM_WORLD_H
#define FLEETSIM_WORLD_H

#include "fleet.h"

#include "programs/batchmgr/fair_queue.h"

struct job {
    struct file f; /* first: what the fair queue holds */
    int tenant, cell;
    double arrived, started, run_s;
    bool queued, running, ended;
    bool early;        /* arrived before anything happened */
    unsigned run;      /* number of its run; an end of another one is none of ours */
    struct job *chain; /* of those that a tenant holds, or that run in a cell */
};

enum event_kind { ARRIVE, RUN_ENDS, FAILS, REPAIRED, FENCED, EVACUATE, DRAIN, COPIED, PAUSED };

struct event {
    double t;
    uint64_t number; /* of events at the same time the older goes first */
    enum event_kind kind;
    int a;
    unsigned b;
    struct job *job;
};

struct cell {
    struct fair_queue *q;
    struct job *running;
    bool up;
    int n_running, n_tenants;
    double busy_s, since; /* core-seconds in use, counted until `since` */
};

struct tenant {
    char id[16];
    double rate, bytes, weight;
    int shard[FLEET_CELLS_MAX], n_shard;
    bool moving, stopped;    /* it is being moved; and nothing of it is started meanwhile */
    int from, to;            /* move */
    double stopped_at, none; /* since when nothing is started; since when it has no cell (-1: it has) */
    double down_s, served_s; /* the longest without one; core-seconds it got */
    bool lost_some;
    int n_running;
    struct job *held, **held_end;
    double last_start, waits_since; /* starvation: since when it has something queued in a cell that is up; -1: it has not */
};

struct world {
    const struct fleet_settings *s;
    struct rng rng;
    double t, quiet_rate, happens_at;
    struct event *heap;
    size_t n_events, cap_events;
    uint64_t n_posted;
    struct cell *cells;
    struct tenant *tenants;
    struct job **jobs;
    size_t n_jobs;
    double *waits, *early_waits, *pauses;
    size_t n_waits, n_early, n_pauses;
    int *wave, n_wave, next_move, n_moving; /* tenants to be moved, in order */
    double wave_at;
    bool waves;
    double both_until, served[2]; /* backlogged */
    double longest_run;
    struct fleet_figures f;
};

/* events.c */
void post(struct world *w, double t, enum event_kind kind, int a, unsigned b, struct job *j);
bool next_event(struct world *w, struct event *ret);

/* cells.c */
void cell_count(struct world *w, struct cell *c); /* busy_s, up to now */
void submit(struct world *w, struct job *j);      /* to one of its tenant's cells, or it is held */
void submit_held(struct world *w, struct tenant *t);
void dispatch(struct world *w, int cell);
void on_run_ends(struct world *w, const struct event *e);
void cell_fails(struct world *w, int cell);
void cell_repaired(struct world *w, int cell);
bool has_cell(const struct world *w, const struct tenant *t);
void hold_queued(struct world *w, struct tenant *t, int cell); /* takes what it has queued there back */
void look_for_down(struct world *w, struct tenant *t);

/* moves.c */
void wave_begin(struct world *w, int cell);
void on_copied(struct world *w, int tenant);
void on_paused(struct world *w, int tenant);
void on_tenant_idle(struct world *w, struct tenant *t); /* its last run in the old cell ended */

#endif
