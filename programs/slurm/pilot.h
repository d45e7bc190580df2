/* On a node: a job that stays, in which a spawner starts one run after another. */
#ifndef SIMBDP_SLURM_PILOT_H
#define SIMBDP_SLURM_PILOT_H

#include "base/err.h"

/* `file`: its own (pilot_files.h), in the directory that has the steps' specs and the launcher's address. `home`: the home's path.
 * Until the launcher has it end, or SIGTERM: then its runs are ended with grace. 0, or negative: it could not start. Blocks. */
int pilot_main(const char *file, const char *home, struct err *e);

#endif
