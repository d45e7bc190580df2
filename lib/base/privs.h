/* Giving privileges up. */
#ifndef SIMBDP_BASE_PRIVS_H
#define SIMBDP_BASE_PRIVS_H

#include <stdbool.h>
#include <stdint.h>

/* This process gets no privilege any more, whatever it executes; with uid 0 or more it becomes that user, in the group of the same
 * number and no other, for good. 0 or -errno (the process is to end then). One thread only. */
int privs_become(int64_t uid);

/* This process is root, or was when it became a manager that has what root may do with tenants' files. */
bool privs_is_root(void);
void privs_set_manager(void);

#endif
