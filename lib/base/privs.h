/* Giving up privileges. */
#ifndef SIMBDP_BASE_PRIVS_H
#define SIMBDP_BASE_PRIVS_H

#include <stdbool.h>
#include <stdint.h>

/* This process cannot gain privileges any more, whatever it executes. With uid >= 0 it also becomes that user for good, in the
 * group of the same number and no other. 0 or -errno (the process must end then). For processes with one thread. */
int privs_become(int64_t uid);

/* This process is root, or is a manager that was root and kept the capabilities for tenants' files. */
bool privs_is_root(void);
void privs_set_manager(void);

#endif
