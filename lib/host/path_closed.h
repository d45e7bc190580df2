/* Whether users other than the owner can reach a path. */
#ifndef SIMBDP_HOST_PATH_CLOSED_H
#define SIMBDP_HOST_PATH_CLOSED_H

/* The first directory on the way to `path` whose mode does not let others through; NULL: none. An access list may say otherwise and
 * is not looked at. The caller frees. */
char *path_closed(const char *path);

#endif
