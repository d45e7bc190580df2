/* How many instances a stream app should have: a plain function of what was measured, of the app's settings and of what
 * it remembers from one decision to the next. It has no loop, no clock and no I/O, so that the monitor, `mysimbdp advise` and
 * the simulator (tests/bench/scalesim) call the very same code. docs/scaling.md says how well it does, what each constant
 * guards against, and what was tried and left out.
 *
 *     n* = ceil((lambda / utilisation + max(0, B - B0) / drain_target) / mu)
 *
 * lambda: arrivals a second; B: messages that are ready or leased; B0: those of them that are merely under way; mu: messages that
 * an instance settles in a second in which it is busy.
 *
 * Kin: Kubernetes' HorizontalPodAutoscaler (tolerance, stabilisation window), DS2 (Kalavri et al., OSDI 2018: the true rate of a
 * busy second), KEDA (lag of a queue, activation from zero). */
#ifndef SIMBDP_CONTROLLER_H
#define SIMBDP_CONTROLLER_H

#include <stdbool.h>
#include <stdint.h>

struct scale_settings {
    double utilisation;          /* 0.05 to 1: the share of its time that an instance is to be busy */
    double drain_target_s;       /* a backlog is to be gone after this time */
    double window_s;             /* the count goes down to the largest need of this time */
    double tolerance;            /* share of the count: arrivals that ask for less than this on top are no reason to grow */
    double max_report_age_s;     /* older figures count as missing */
    double max_average_s;        /* try more instances when a message takes longer than this; NaN: no such rule */
    double min_processing_per_s; /* more instances when fewer messages are processed while some wait; NaN: no such rule */
};
/* The settings of an app that sets none. The configuration has the same defaults (lib/conf/keys.c). */
extern const struct scale_settings scale_defaults;

struct scale_input {
    double now_s;            /* of any steady clock */
    double ingress_per_s;    /* arrivals, over the last report period */
    double ready, leased;    /* messages */
    double acks_per_busy_s;  /* of one instance, as the instances report it; NaN: not known */
    double average_s;        /* that a message takes; NaN: not known */
    double processing_per_s; /* by all instances together; NaN: not known */
    int64_t instances;       /* running */
    int64_t min, max;        /* what the tenant's agreement allows */
    double report_age_s;     /* of these figures; NaN: there are none */
};

enum { SCALE_SLICES = 64 };

/* What is remembered from one decision to the next; all zero at first. Only scaling_law.c changes it. */
struct scale_memory {
    bool begun;      /* a decision was made from fresh figures, so the fields below mean something */
    bool adopted;    /* desired means something */
    int64_t desired; /* the count in force */
    /* The sample before this one. */
    double measured_s, rate, backlog;
    int64_t count;
    bool rose; /* its arrivals were a rise beyond doubt */
    /* Arrivals a second: smoothed, and the variance of one sample. */
    double lambda, variance;
    /* The speed of an instance, in messages a busy second. */
    double mu;                   /* as instances report it, smoothed; 0: not known */
    double trust;                /* factor that corrects mu; 0: the app never reported, and mu was measured */
    double settled, there;       /* messages settled a second, and instances, both smoothed */
    double holding, holding_s;   /* instances that hold a message, smoothed; time since a sample in which none did */
    double full_settled, full_s; /* settled while all instances were busy without a break, and for how long; -1: they are not */
    double best;                 /* the most that one instance was seen to settle a second */
    /* The needs of the recent window: a ring of the largest need in each slice. */
    struct {
        double at_s, need;
    } needs[SCALE_SLICES];
    unsigned head;
    double active_at_s; /* when an instance was needed last */
    /* The last step down: from how many, under which load, and until when the count must not go below that again. */
    int64_t down_from;
    double down_lambda, floor_until_s;
    /* A trial of more instances, for the sake of max_average_s. */
    int64_t trial_from;              /* the count before; 0: no trial is on */
    double trial_at_s, trial_before; /* when it began, or when the next may; average_s before */
    int trials;                      /* in a row that did not help */
    /* More instances than the ceiling settle no more; 0: none is known. */
    int64_t ceiling;
    double ceiling_until_s, ceiling_settled; /* messages a second when it was set */
    int ceilings;                            /* in a row */
};

struct scale_decision {
    int64_t desired;
    const char *reason; /* static text */
};

/* Decides and remembers. `in` may hold anything: a figure that is not a number, negative or contradictory counts as not known.
 * desired lies within min and max in any case. The same figures (now_s - report_age_s) told again change nothing. */
struct scale_decision scale_decide(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *in);

/* Tells the controller that somebody else set the count (an activation, a command): it is in force now, and is kept for a window
 * at least. */
void scale_adopt(const struct scale_settings *s, struct scale_memory *m, double now_s, int64_t desired);

#endif
