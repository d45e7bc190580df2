/* Serves the warden on a descriptor: submits steps as jobs, follows them, and speaks for them on the channels to the manager. */
#ifndef SIMBDP_SLURM_LAUNCHER_H
#define SIMBDP_SLURM_LAUNCHER_H

#include "host/home.h"

/* Until the descriptor's other end is closed; jobs go on then. 0, or negative with what could not be done. */
int launcher_main(int fd, const struct home *h, struct err *e);

#endif
