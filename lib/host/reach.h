/* Whether users other than the owner can reach a path. */
#ifndef SIMBDP_HOST_REACH_H
#define SIMBDP_HOST_REACH_H

/* The first directory on the way to `path` whose mode does not let others through; NULL: none. An access list may say otherwise and
 * is not looked at. The caller frees. */
char *reach_closed(const char *path);

#endif
