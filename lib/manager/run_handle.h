/* A run as its manager holds it: for the current step of each, the order channel to its runner.
 *
 * The channel only hurries things up; what counts is on disk. A step whose channel broke, and every step that was under way when
 * the manager started, is resolved by three things: the lock that a living runner holds (<claim>.lock), the step's directory, which
 * is the fence (who makes it decides whether the step is started), and result.json in it.
 *
 *   lock   directory  result.json   so
 *   held   any        any           a runner lives: connect to its socket; it says again what it said last
 *   free   yes        yes           the step ended: take the result
 *   free   no         -             it never started, and making the directory now keeps it so: cancelled
 *   free   yes        no            the runner died: end what is left of its processes, then the outcome is `lost`
 *
 * A step that is a job of a cluster (there is a file of it in WARDEN_JOBS) is resolved by its launcher (programs/slurm/), which
 * speaks on the channel as a runner does, and writes result.json where the runner could not.
 *
 * On the loop; nothing blocks but small files. Callbacks may free the handle that they are about, except `started`. */
#ifndef SIMBDP_MANAGER_RUN_HANDLE_H
#define SIMBDP_MANAGER_RUN_HANDLE_H

#include "spawner.h"

#include "run/spec.h"

struct run_handle;

struct run_handle_ops {
    void (*started)(void *arg);                       /* perhaps again, after a reconnection */
    void (*ended)(void *arg, struct run_result *res); /* once a step; the result is the callee's: run_result_free and free */
    /* It was not started and never will be, for reasons of ours; not before delay_ms is another worth trying. */
    void (*cancelled)(void *arg, const char *why, int64_t delay_ms);
    void (*noted)(void *arg, enum run_said what, const char *text); /* NODE or WAITS; NULL where no run is a job of a cluster */
};

/* ops are borrowed. */
struct run_handle *run_handle_new(struct spawner *s, const char *tenant, const char *run_id, const struct run_handle_ops *ops,
                                  void *arg);
void run_handle_free(struct run_handle *h); /* lets go of it; the run goes on. NULL is fine */

/* Which step it is about: its claim and directory (lib/run/spec.h). Before run_handle_start and run_handle_resolve. */
void run_handle_set_step(struct run_handle *h, const char *claim, const char *dir);
/* Hands the step to the warden. What goes wrong is said by `cancelled`, from within. */
void run_handle_start(struct run_handle *h, const struct run_spec *spec);
/* Finds out what became of a step that an earlier manager started. */
void run_handle_resolve(struct run_handle *h);
/* Orders a stop, now and when its runner is found again. */
void run_handle_stop(struct run_handle *h);
/* It is a job of a cluster whose node nobody hears: it ends when that is heard, or a person says that it is off. */
bool run_handle_is_unheard(const struct run_handle *h);
/* A person says that the node is off for which its job waits: nothing of it can be left there. False: it waits for no node. */
bool run_handle_node_is_off(struct run_handle *h);
/* The step's end is durable: its scratch is removed, and its runner may go. */
void run_handle_acknowledge(struct run_handle *h);
/* At start: runners whose step's end is durable, but whose manager died before it could say so, may go, too. */
void run_handle_dismiss_ended(const struct home *h, bool (*is_ended)(void *arg, const char *claim), void *arg);
/* The same of steps that are jobs of a cluster. */
void run_handle_dismiss_ended_jobs(struct spawner *s, bool (*is_ended)(void *arg, const char *claim), void *arg);

#endif
