/* Runs: dispatch, steps, their ends, and taking them back after a restart. */
#ifndef SIMBDP_BATCHMGR_RUNS_H
#define SIMBDP_BATCHMGR_RUNS_H

#include "model.h"

struct batchmgr;

int runs_start(struct batchmgr *m, struct err *e); /* the spawner */
void runs_stop(struct batchmgr *m);
void runs_dispatch(struct batchmgr *m);
/* A file whose row says `running`: takes up its run. When all are known, runs_resolve finds the runners, their results, or what is
 * left of them. */
void runs_recover(struct batchmgr *m, struct file *f);
void runs_resolve(struct batchmgr *m);
void runs_dismiss_ended(struct batchmgr *m); /* runners that were not told that all is over */
void runs_clean_groups(struct batchmgr *m);  /* directories of groups whose runs are no more */
/* Orders a stop. One of a person stays one when a drain follows. */
void runs_order_stop(struct batchmgr *m, struct run *r, enum run_stop why);
/* The database answered a check; verdicts that waited for it go on. */
void runs_on_health(struct batchmgr *m);
/* The run's end is committed: tell its runner, forget it. */
void runs_acknowledge(struct batchmgr *m, struct run *r);

#endif
