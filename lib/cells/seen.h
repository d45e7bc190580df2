/* The newest map that somebody saw, so that an older one, which is signed as well, is not taken again. A file of one line: serial
 * and hash. */
#ifndef SIMBDP_CELLS_SEEN_H
#define SIMBDP_CELLS_SEEN_H

#include "map.h"

/* 0: it is as new as what was seen, or newer, which is then on disk. ERR_REFUSED: an older one was put back, or there are two of
 * the same serial. ERR_FORMAT: what was seen cannot be read: somebody has to look, and to remove it. */
int cells_seen(int dirfd, const char *file, const struct cells_map *m, struct err *e);

#endif
