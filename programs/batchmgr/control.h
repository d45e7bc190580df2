/* The control socket: one JSON object a line in, one or more out, the last with "done". */
#ifndef SIMBDP_BATCHMGR_CONTROL_H
#define SIMBDP_BATCHMGR_CONTROL_H

#include "base/err.h"

struct batchmgr;

int control_start(struct batchmgr *m, struct err *e);
void control_stop(void);
/* Answers a waiting `drain`. */
void control_drained(void);

#endif
