/* A home into a backup. */
#ifndef SIMBDP_BACKUP_COLLECT_H
#define SIMBDP_BACKUP_COLLECT_H

#include "pieces/store.h"

#include "host/home.h"

struct backup_order {
    const struct home *home;
    struct store *store;
    bool files;         /* done/ and quarantine/, too */
    const char *before; /* the point before, or NULL */
};

struct point;
/* Takes a backup of a home, which may be running. *ret is what was written, to be freed with point_fini, also on failure. Blocks.
 */
int collect(const struct backup_order *o, struct point *ret, struct err *e);

#endif
