/* Intake as a whole: who looks for names when, and what pauses it. The parts: staging, candidates, walk, claim, disk. */
#ifndef SIMBDP_BATCHMGR_INTAKE_H
#define SIMBDP_BATCHMGR_INTAKE_H

#include "base/err.h"

struct batchmgr;

/* Before the configuration comes into force, whose directories are watched then. */
int intake_start(struct batchmgr *m, struct err *e);
/* And after: looks at everything, and at the disk. */
void intake_begin(struct batchmgr *m);
void intake_stop(struct batchmgr *m);
/* All directories are walked: a name may have come that nobody was told of. */
void intake_rescan(struct batchmgr *m);

#endif
