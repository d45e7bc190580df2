/* How many instances a stream app should have: a plain function of what was measured, of its settings, and of what it remembers.
 * No loop, no clock, no I/O; the simulator (tests/bench/scalesim) and `mysimbdp advise` call the very same. docs/scaling.md says
 * how it came about, and how it does beside others.
 *
 *     n* = ceil((lambda / utilisation + max(0, B - B0) / drain_target) / mu)
 *
 * lambda: arrivals a second, smoothed, but at once what comes in when that is more than chance; B: ready and leased messages, B0:
 * what is under way anyhow; mu: messages that an instance settles in a busy second, smoothed, and held against what is seen to be
 * settled. Up at once; down to the largest n* of the recent window, at most by half a step; nothing inside the tolerance, nothing
 * without fresh figures. Growth that does not raise the throughput is taken back (the database, a quota), and tried again later.
 *
 * Kin: Kubernetes' HorizontalPodAutoscaler (ratio, tolerance, stabilisation window), DS2 (Kalavri et al., OSDI 2018: true rates per
 * busy second), KEDA (activation from zero, lag). */
#ifndef SIMBDP_MONITOR_CONTROLLER_H
#define SIMBDP_MONITOR_CONTROLLER_H

#include <stdbool.h>
#include <stdint.h>

struct scale_settings {
    double utilisation;          /* 0.05 to 1: of an instance's time, when nothing is left over */
    double drain_target_s;       /* a backlog is to be gone in so long */
    double window_s;             /* down to the largest need of so long */
    double tolerance;            /* of the count: less than that is no reason to grow while nothing waits, or more are starting */
    double max_report_age_s;     /* older figures are none */
    double max_average_s;        /* more instances when a message takes longer; NaN: never mind */
    double min_processing_per_s; /* more when fewer are processed although they wait; NaN: never mind */
};
/* The settings of an app that sets none (lib/conf/keys.c has them as defaults, too). */
extern const struct scale_settings scale_defaults;

struct scale_input {
    double now_s;            /* of any steady clock */
    double ingress_per_s;    /* messages that came in, over the last report period */
    double ready, leased;    /* messages */
    double acks_per_busy_s;  /* an instance's; NaN: nobody knows */
    double average_s;        /* that a message takes; NaN: nobody knows */
    double processing_per_s; /* by all instances; NaN: nobody knows */
    int64_t instances;       /* that run */
    int64_t min, max;        /* the agreement */
    double report_age_s;     /* of the figures; NaN: there are none */
};

enum { SCALE_SLICES = 64 };

/* What is remembered from one decision to the next. Zeroed at first. */
struct scale_memory {
    bool begun, adopted, reports; /* adopted: desired is known;  reports: its instances say how fast they are */
    int64_t desired;              /* in force; see scale_adopt */
    double measured_s, backlog;
    bool full;
    double full_s, full_acks, full_busy; /* while all of them have more than enough */
    /* Arrivals: smoothed, variance of a sample, the sample before, and whether that one was a rise without doubt. */
    double lambda, variance, sample;
    bool rose;
    /* What instances settle: messages and busy seconds (smoothed), what a report of mu is worth, what is seen to be settled, and
     * the most that was seen of one. */
    double acks, busy, acks_seen, trust, settled, seen_s, mu_best;
    /* How many there are, and how many hold messages: the last sample, smoothed, its variance, how often none does, and for how
     * long that is what chance would have. */
    double count, there, held, holding, holding_variance, none_held, by_chance_s;
    /* Needs of the recent window: a ring of the largest of each slice; and the mean over a long time. */
    struct {
        double at_s, need;
    } needs[SCALE_SLICES];
    unsigned head;
    double need_long;
    double down_at_s, down_lambda, up_at_s, active_at_s; /* steps; active: when some were needed */
    int64_t down_from, floor;                            /* floor: fewer were too few lately; 0: none */
    double floor_until_s, floor_lambda;
    /* The last growth, until it is known what it brought. */
    int64_t grown_from, grown_to;
    double grown_at_s, before, no_judgement_until_s;
    double plateau, plateau_s; /* settled while all of plateau_n were busy, and how long */
    int64_t plateau_n;
    int plateau_samples, samples, arrival_samples;
    bool grown_for_average, trial; /* trial: for max_average_s, one small step */
    double no_trial_until_s;
    int trials;        /* in a row that did not help */
    int64_t take_back; /* to as many as there were before one that did not; 0: none */
    /* More did not help. */
    int64_t ceiling; /* 0: none */
    double ceiling_until_s, ceiling_settled;
    int ceilings; /* in a row */
};

struct scale_decision {
    int64_t desired;
    const char *reason; /* static */
};

/* `in` may be anything: what is not a number, negative or contradictory is treated as not known. min and max are obeyed in any
 * case. */
struct scale_decision scale_decide(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *in);

/* Somebody else changed the count (an activation, a command): it is in force now, and stays for the window at least. */
void scale_adopt(const struct scale_settings *s, struct scale_memory *m, double now_s, int64_t desired);

#endif
