/* Work on a tenant's data that is no run: simbdp-load, started with a job of its own. What it does can be done twice, so nothing
 * of it is recorded: whoever asks asks again until it ended well. */
#ifndef SIMBDP_HELPER_H
#define SIMBDP_HELPER_H

#include "batchmgr.h"

/* Starts it for the tenant (one at a time each) with the job's JSON text; done(arg, ok) is called on the loop. False when it was
 * not started: the tenant has one going, no database is known yet, or there is no process. */
bool helper_start(struct batchmgr *m, const struct tenant *t, const char *job, void (*done)(void *arg, bool ok), void *arg);
/* SIGCHLD: takes the pid if it is a helper's. */
bool helper_reaped(struct batchmgr *m, int pid, int status);
void helper_stop(struct batchmgr *m); /* ends them; done(arg, false) is called */

#endif
