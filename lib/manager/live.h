/* Runs as their manager sees them: for the current step of each the order channel to its runner.
 *
 * The channel only hurries things up: what counts is on disk. A channel that closes, and every run that is found under way at
 * start, is resolved by the fence (the step's directory), the lock that a live runner holds, and result.json: lock held a runner
 * lives: connect to its socket; it says again what it said last result.json             the step ended: take the result no
 * directory            it never started, and making the directory now keeps it so directory only          the runner died: end what
 * is left of the tree, then the outcome is `lost`
 *
 * On the loop; nothing blocks but small files. Callbacks may free the run they are about, except `started`. */
#ifndef SIMBDP_MANAGER_LIVE_H
#define SIMBDP_MANAGER_LIVE_H

#include "spawner.h"

#include "run/spec.h"

struct live;

struct live_ops {
    void (*started)(void *arg);                       /* perhaps again, after a reconnection */
    void (*ended)(void *arg, struct run_result *res); /* once a step; the result is the callee's: run_result_free and free */
    /* It was not started and never will be, for reasons of ours; not before delay_ms is another worth trying. */
    void (*cancelled)(void *arg, const char *why, int64_t delay_ms);
};

/* ops are borrowed. */
struct live *live_new(struct spawner *s, const char *tenant, const char *run_id, const struct live_ops *ops, void *arg);
void live_free(struct live *l); /* lets go of it; the run goes on. NULL is fine */

/* Which step it is about: its claim and directory (lib/run/spec.h). Before live_start and live_resolve. */
void live_set_step(struct live *l, const char *claim, const char *dir);
/* Hands the step to the warden. What goes wrong is said by `cancelled`, from within. */
void live_start(struct live *l, const struct run_spec *spec);
/* Finds out what became of a step that an earlier manager started. */
void live_resolve(struct live *l);
/* Orders a stop, now and when its runner is found again. */
void live_stop(struct live *l);
/* The step's end is durable: its scratch is removed, and its runner may go. */
void live_acknowledge(struct live *l);
/* At start: runners whose step's end is durable, but whose manager died before it could say so, may go, too. */
void live_dismiss_ended(const struct home *h, bool (*is_ended)(void *arg, const char *claim), void *arg);

#endif
