/* Whether a point can be restored. */
#ifndef SIMBDP_BACKUP_CHECK_H
#define SIMBDP_BACKUP_CHECK_H

#include "pieces/point.h"

#include "base/map.h"

/* Reads all pieces of the point and compares them with their names; databases are put together and checked by SQLite, the segments
 * of the broker's log record by record. `say` is told of each finding. `known` (NULL: none) has the names of pieces that were whole
 * for another point, which are not read again for files alone; those of this one are added, the caller frees the map. Returns how
 * many findings, or a negative code when the point itself cannot be read. Blocks. */
int64_t check_point(struct store *s, const struct point *p, struct map *known, void (*say)(void *arg, const char *text), void *arg,
                    struct err *e);

#endif
