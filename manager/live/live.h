/* Runs as their manager sees them: the spawner, and for the current step of each run the order channel to its runner.
 *
 * The channel only hurries things up: what counts is on disk. A channel that closes, and every run that is found under way at
 * start, is resolved by the fence (the step's directory), the lock that a live runner holds, and result.json: lock held a runner
 * lives: connect to its socket; it says again what it said last result.json             the step ended: take the result no
 * directory            it never started, and making the directory now keeps it so directory only          the runner died: end what
 * is left of the tree, then the outcome is `lost`
 *
 * On the loop; nothing blocks but small files. Callbacks may free the run they are about, except `started`. */
#ifndef SIMBDP_LIVE_H
#define SIMBDP_LIVE_H

#include "common/cgroup.h"
#include "common/home.h"
#include "common/runspec.h"

#include <event2/event.h>

struct spawner;
struct live;

/* Starts the program and keeps one running; ready: whenever it can take runs (again). Borrows home and cgroups. */
struct spawner *spawner_new(struct event_base *base, const struct home *home, struct cgroup_host *cgroups, void (*ready)(void *arg),
                            void *arg);
void spawner_free(struct spawner *s); /* NULL is fine; runs go on. Blocks until the program has ended, some 10 ms */
/* False while it is gone, or the process table was full a moment ago (then `ready` is called when to try again). */
bool spawner_is_ready(const struct spawner *s);
/* Removes what a tenant may have made as large as it liked: aside at once, then by a thread; where it cannot be moved, or s is
 * NULL, here and now. 0 or -errno. */
int spawner_discard(struct spawner *s, int dirfd, const char *path);

struct live_ops {
    void (*started)(void *arg);                       /* perhaps again, after a reconnection */
    void (*ended)(void *arg, struct run_result *res); /* once a step; the result is the callee's: run_result_free and free */
    /* It was not started and never will be, for reasons of ours; not before delay_ms is another worth trying. */
    void (*cancelled)(void *arg, const char *why, int64_t delay_ms);
};

/* ops are borrowed. */
struct live *live_new(struct spawner *s, const char *tenant, const char *run_id, const struct live_ops *ops, void *arg);
void live_free(struct live *l); /* lets go of it; the run goes on. NULL is fine */

/* Which step it is about: its claim and directory (common/runspec.h). Before live_start and live_resolve. */
void live_set_step(struct live *l, const char *claim, const char *dir);
/* Hands the step to the spawner. What goes wrong is said by `cancelled`, from within. */
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
