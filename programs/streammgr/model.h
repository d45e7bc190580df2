/* What streammgr remembers of apps, their instances and asks, and how these hang together. Plain data: what is done with it is in
 * instance.h, drain.h, app.h, manual_instances.h; instances_db.h writes it down. */
#ifndef SIMBDP_STREAMMGR_MODEL_H
#define SIMBDP_STREAMMGR_MODEL_H

#include "host/home.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct streammgr;
struct app;

enum { MAX_SESSIONS = 8 };

/* An instance that has ended is no more. */
#define INSTANCE_STATES(X) X(starting) X(running) X(draining)
enum instance_state {
#define X(name) INSTANCE_##name,
    INSTANCE_STATES(X)
#undef X
        INSTANCE_N_STATES
};

const char *instance_state_name(enum instance_state state);

/* One process tree that consumes a stream: a run with a single step. */
struct instance {
    char run_id[ID_SIZE];
    char ask[ID_SIZE]; /* of the ask that it is there for; "": it is one of those that are scaled */
    struct app *app;
    enum instance_state state;
    uint64_t generation; /* of configuration and executable that it was started with */
    int64_t attempt, started_wall_ms, started_ms;
    int launcher; /* enum conf_launcher: where it was started */
    double cpus;  /* charged */
    int64_t memory_bytes;
    char *node, *waits; /* of a job: where it is, and for what it waits; NULL: not known, nothing */
    bool charged;
    bool unheard;       /* nobody hears its node: another is in its place, and it ends when that is heard */
    char *stop;         /* why it was told to go; NULL: it was not */
    int64_t term_at_ms; /* draining: until then it may finish what it holds; 0: it got SIGTERM */
    bool held;          /* the broker was asked to give it nothing more, and has answered since */
    bool consumes;      /* the broker has seen it at some time */
    int64_t absent_ms;  /* it consumed, and has had no session since then; 0: it has one, or never had */
    int64_t leased;     /* messages that its sessions hold, as the broker said last; -1: it has no session */
    uint64_t sessions[MAX_SESSIONS];
    size_t n_sessions;
    uint64_t quality_ino; /* of its result file when it was looked at last */
    struct timespec quality_mtime;
    struct run_handle *handle;
    struct instance *next;
};

/* Another instance with arguments of its own, that a person asked for (manual_instances.h). In the book. */
struct ask {
    char id[ID_SIZE];      /* the run id of its first instance */
    char *args;            /* {"args":[...]} */
    int64_t not_before_ms; /* of the next start */
    bool begun;            /* there was an instance */
    struct ask *next;
};

/* What is known of a stream app beside its configuration. Lives as long as streammgr. */
struct app {
    char *tenant, *name;
    struct streammgr *mgr;
    struct instance *instances; /* the youngest first */
    size_t n;                   /* of them, scaled and not draining */
    struct ask *asks;
    size_t n_asks;
    int64_t asked_minute_ms; /* monotonic: in the minute since then */
    int n_asked;             /* the gateway asked for so many */

    /* What was asked for; in the book. */
    int64_t wanted; /* by order or activation; before min, max and what forbids it */
    bool stopped;   /* by command */
    bool pinned;    /* a person said how many: the monitor does not decide */
    int64_t least;  /* instead of min_instances, since a person stopped an instance; -1: no */
    char *args;     /* {"args":[...]} instead of the configuration's, by a book of before there were asks; or NULL */
    bool forgotten; /* its tenant is being removed for good */

    int64_t order_expires_wall_ms; /* 0: no order is in force */
    int64_t order_seq;             /* of the last one that had a number; -1: none had */

    char *image;      /* its instances' root, or NULL */
    bool image_waits; /* it is being unpacked */
    int64_t image_identity;

    char *parked; /* why, or NULL */
    int64_t parked_identity, parked_until_ms;
    int64_t failures;      /* ends by itself in a row, none of them after it was healthy */
    int64_t restarts;      /* ends by itself since this streammgr began */
    int64_t not_before_ms; /* of the next start */
    char *last_end;        /* of one that ended by itself */
    int64_t told_unready_ms;

    uint64_t generation, generation_of; /* cached for this version of everything (streammgr.version) */
    int64_t identity;
};

/* starting -> running -> draining, or from starting to draining at once. Another move is a bug of ours and ends the program. */
void instance_set_state(struct instance *i, enum instance_state next);
/* It counts: for no ask, and not told to go. */
bool instance_is_scaled(const struct instance *i);

/* The app of that name; made, or NULL, where there is none yet. */
struct app *app_get(struct streammgr *m, const char *tenant, const char *name, bool make);
/* How many instances there are, draining ones too; tenant NULL: of all. */
size_t instances_of(const struct streammgr *m, const char *tenant);
/* Likewise of all, without those whose node nobody hears. */
size_t instances_heard(const struct streammgr *m);
/* Frees the app; it has no instance and no ask any more. */
void app_free(struct app *a);

const struct ask *ask_of(const struct app *a, const char *id); /* or NULL */
/* The ask's instance that was not told to go, or NULL. */
struct instance *ask_instance(const struct app *a, const char *id);

#endif
