/* For `mysimbdp doctor`, on a node: what it sees of the home, and whom it reaches. */
#ifndef SIMBDP_SLURM_SEE_H
#define SIMBDP_SLURM_SEE_H

#include "base/err.h"

/* Writes what is in `file` into `file`.seen, and behind it a line "HOST PORT WHY" for each of n pairs of host and port that cannot
 * be connected to. Blocks: five seconds for each at the most, beside looking up a name. */
int see(const char *file, char *const *pairs, int n, struct err *e);

#endif
