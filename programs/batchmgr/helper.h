/* Work on a tenant's data that is no run: simbdp-load, started with a job of its own. What it does can be done twice, so nothing
 * of it is recorded: whoever asks asks again until it ended well. */
#ifndef SIMBDP_BATCHMGR_HELPER_H
#define SIMBDP_BATCHMGR_HELPER_H

#include "batchmgr.h"

enum helper_end { HELPER_DONE, HELPER_FAILED, HELPER_STOPPED /* by helper_stop: how far it came is not known */ };
typedef void (*helper_done_fn)(void *arg, enum helper_end end);

/* Starts it for the tenant (one at a time each) with the job's JSON text; `done` is called on the loop. False when it was
 * not started: the tenant has one going, no database is known yet, or there is no process. */
bool helper_start(struct batchmgr *m, const struct tenant *t, const char *job, helper_done_fn done, void *arg);
void helper_stop(struct batchmgr *m); /* ends them */

#endif
