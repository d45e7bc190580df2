/* Whether a point can be restored. */
#ifndef SIMBDP_BACKUP_CHECK_H
#define SIMBDP_BACKUP_CHECK_H

#include "point.h"

/* Reads all pieces of the point and compares them with their names; databases are put together and checked by SQLite, the segments
 * of the broker's log record by record. `say` is told of each finding. Returns how many, or a negative code when the point itself
 * cannot be read. Blocks. */
int64_t check_point(struct store *s, const struct point *p, void (*say)(void *arg, const char *text), void *arg, struct err *e);

#endif
