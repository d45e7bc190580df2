/* How a step is ended: SIGTERM to all of it, grace, then SIGKILL until the kernel confirms that nothing is left. */
#ifndef SIMBDP_RUNNER_KILL_TREE_H
#define SIMBDP_RUNNER_KILL_TREE_H

#include "step.h"

enum { KILL_TREE_TICK_MS = 20 };

/* SIGTERM, and grace_s from now. Nothing unless the step is running. */
void kill_tree_stop(struct runner *r);
/* From now on everything of it is killed; `forced` where its main process has not ended by itself. Nothing if that is so already.
 */
void kill_tree_kill(struct runner *r);
/* One attempt to end everything; call it every KILL_TREE_TICK_MS. True when the kernel confirms that nothing is left. */
bool kill_tree_tick(struct runner *r);

#endif
