/* From a file whose turn it is to a run whose step was started; and taking runs back after a restart. */
#ifndef SIMBDP_BATCHMGR_DISPATCH_H
#define SIMBDP_BATCHMGR_DISPATCH_H

#include "model.h"

struct batchmgr;

void dispatch_start(struct batchmgr *m);
void dispatch_stop(struct batchmgr *m); /* after runs_stop; ends the spawner's side, too */

/* Starts what may start now: so many a turn, then another turn is asked for. */
void dispatch_turn(struct batchmgr *m);

/* A file whose row says `running`: takes up its run. When all are known, dispatch_resolve finds the runners, their results, or what
 * is left of them. */
void dispatch_recover(struct batchmgr *m, struct file *f);
void dispatch_resolve(struct batchmgr *m);
void dispatch_dismiss_ended(struct batchmgr *m); /* runners that were not told that all is over */
void dispatch_clean_groups(struct batchmgr *m);  /* directories of groups whose runs are no more */

#endif
