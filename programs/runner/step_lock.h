/* Ensures that one runner owns a step: a lock (it is alive), the exclusively made directory (nobody else ever runs this step), and
 * a socket by which managers find it. */
#ifndef SIMBDP_RUNNER_STEP_LOCK_H
#define SIMBDP_RUNNER_STEP_LOCK_H

#include "step.h"

#include "base/err.h"

/* ERR_REFUSED: another runner, or a recovering manager, was first. What was opened until a failure stays in r. */
int claim_step(struct runner *r, struct err *e);
/* Removes socket and lock of a step that was claimed; the lock is held until its descriptor is closed. */
void claim_release(struct runner *r);

#endif
