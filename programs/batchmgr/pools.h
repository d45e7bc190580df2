/* Where runs are started, as the fair queue has it: a pool for each place, with what of it is this home's. */
#ifndef SIMBDP_BATCHMGR_POOLS_H
#define SIMBDP_BATCHMGR_POOLS_H

#include "fair_queue.h"

#include "conf/conf.h"

struct batchmgr;

#define POOL_SLURM "slurm" /* jobs of the cluster; this machine's is FAIR_QUEUE_LOCAL. Pilots of a profile are a pool, too */

/* Sets the pools' capacities as the configuration has them. */
void pools_set(struct batchmgr *m);
/* What a run of that profile takes. */
struct demand pools_demand(struct batchmgr *m, const struct conf_profile *p);

#endif
