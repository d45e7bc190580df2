/* The runs that have not ended: found by their id, told to stop, and forgotten when their end is durable. */
#ifndef SIMBDP_BATCHMGR_RUNS_H
#define SIMBDP_BATCHMGR_RUNS_H

#include "model.h"

struct batchmgr;

void runs_start(struct batchmgr *m);
void runs_stop(struct batchmgr *m); /* lets go of them; they go on */

void runs_add(struct batchmgr *m, struct run *r); /* TAKE */
struct run *runs_find(struct batchmgr *m, const char *run_id);
size_t runs_n(const struct batchmgr *m);
/* Each of them, as map_next does it. */
struct run *runs_next(struct batchmgr *m, size_t *i);

/* Orders a stop; of two orders the later one of enum run_stop counts. */
void runs_order_stop(struct run *r, enum run_stop why);
/* The same for all runs of a tenant, or (NULL) of all. How many they are. */
size_t runs_order_stop_all(struct batchmgr *m, const char *tenant, enum run_stop why);

/* The run's end is durable: its runner may go, and the run is forgotten and freed. */
void runs_acknowledge(struct batchmgr *m, struct run *r);

#endif
