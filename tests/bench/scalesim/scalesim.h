/* scalesim: scaling policies on simulated stream apps, by discrete events and with a clock of its own. main.c says how it is
 * called. */
#ifndef SCALESIM_H
#define SCALESIM_H

#include "programs/monitor/scaling_law.h"
#include "tests/bench/chance.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_APPS = 2, MAX_INSTANCES = 64, MAX_COUNT = 32, MAX_SECONDS = 7200 };
#define SLO_S       5.0 /* the oldest message is not to be older */
#define NOTHING     INFINITY
#define START_MAX_S 3.0

/* ---- loads.c ---- */

enum arrivals { POISSON, HEAVY_TAIL };

struct load {
    const char *name, *what;
    void (*make)(double *rate, int seconds, struct rng *r); /* arrivals a second, for each second */
    int seconds;
    int step_s, step_end_s; /* a step that settling and overshoot are measured on; 0: none */
    double mu, spread;      /* messages a second of an instance; sigma of the log of service times */
    double start_min_s, start_max_s, report_s;
    enum arrivals arrivals; /* HEAVY_TAIL: in bursts of Pareto sizes */
    double ceiling_per_s;   /* what the database takes in all; 0: any */
    int gap_s, gap_end_s;   /* no reports come */
    double lies;            /* reported mu is so many times the true one; 0: none, from lie_s to lie_end_s */
    int lie_s, lie_end_s;
    int stuck_s; /* a message comes that nobody can settle; 0: none */
    int hung_s;  /* an instance stops working; 0: none */
    bool to_zero, constant;
    int contenders, slots; /* apps with this load, half a period apart, that share so many instances; 0: one app, no limit */
};

extern const struct load loads[];
extern const size_t n_loads;
/* A load of a file of lines "t_s,arrivals_per_s"; NULL and a message on stderr: it cannot be read. */
const struct load *load_from_trace(const char *path);

/* ---- policies.c ---- */

/* What a policy sees. */
struct seen {
    double t, at; /* now; when it was measured */
    bool fresh;   /* a report came since the last time */
    double ingress_per_s, ready, leased;
    double busy;            /* share of time that instances were busy */
    double acks_per_busy_s; /* NaN: nobody was busy */
    int instances, wanted;  /* that run; that were asked for last */
    int min, max;
};

/* And what only the oracle does. */
struct truth {
    const double *rate;
    int seconds;
    double mean_per_s;
    const struct load *load;
};

struct policy {
    const char *name, *what;
    int n_settings;
    const char *const *settings; /* what each of them is, for people */
    int best;                    /* of them, by --tune */
    size_t state_size;
    int (*decide)(void *state, int setting, const struct seen *s, const struct truth *truth); /* -1: as it is */
};

extern const struct policy policies[];
extern const size_t n_policies;
extern const struct policy *const oracle;

/* ---- plant.c ---- */

struct figures {
    double slo_s, instance_s, peak, age_p99_s, settling_s, overshoot, reversals, actions;
};

/* One run. */
struct figures plant_run(const struct policy *p, int setting, const struct load *l, uint64_t seed);

extern struct scale_settings our_settings; /* of the policy "ours" */
extern bool timeline;                      /* plant_run prints what happens, every 2 s */

#endif
