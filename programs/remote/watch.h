/* Files as they change. */
#ifndef SIMBDP_REMOTE_WATCH_H
#define SIMBDP_REMOTE_WATCH_H

#include "remote.h"

/* Prints each file of the query that changes its state, from now on, until nobody reads it. */
int watch_files(struct remote *r, const char *query);

#endif
