/* Whether other users can get to a path. */
#ifndef SIMBDP_HOST_REACH_H
#define SIMBDP_HOST_REACH_H

/* The first directory on the way to `path` that does not let others through, as its mode says (an access list may say otherwise);
 * NULL: none. Caller frees. */
char *reach_closed(const char *path);

#endif
