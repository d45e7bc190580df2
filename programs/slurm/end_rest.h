/* On a node: ends what is left of a step whose runner is gone. */
#ifndef SIMBDP_SLURM_END_REST_H
#define SIMBDP_SLURM_END_REST_H

#include "base/err.h"

/* Until nothing of the step `claim` is left here; then the file `gone` is made. runtime, tag: as its spec has them. 0 or negative:
 * something does not end, or the file cannot be made. Blocks. */
int end_rest(const char *runtime, const char *tag, const char *claim, const char *gone, struct err *e);

#endif
