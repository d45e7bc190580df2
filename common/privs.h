/* Giving privileges up. */
#ifndef SIMBDP_PRIVS_H
#define SIMBDP_PRIVS_H

#include <stdint.h>

/* This process gets no privilege any more, whatever it executes; with uid 0 or more it becomes that user, in the group of the same
 * number and no other, for good. 0 or -errno (the process is to end then). One thread only. */
int privs_become(int64_t uid);

#endif
