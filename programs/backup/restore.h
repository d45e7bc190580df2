/* A home out of a backup. */
#ifndef SIMBDP_BACKUP_RESTORE_H
#define SIMBDP_BACKUP_RESTORE_H

#include "pieces/point.h"

struct restored {
    char *home; /* where it is; real */
    int64_t uid_base,
        uid_base_was; /* differ: another home has the uids that it had, so its files and tenants got others. -1: none */
    int64_t n_later, n_later_ingested; /* files that the home it is of, which is still there, has and it has not; -1: not known */
    bool databases_elsewhere;
};

void restored_fini(struct restored *r);

/* Makes `to`, which may exist when it is empty, the home that it was at the point. Killed anywhere, it is no home, and may be
 * called again. ERR_REFUSED: something is there; the text says what to do. Enters the home's user namespace, where it is run
 * without root; before the process has threads. Blocks. */
int restore_point(struct store *s, const struct point *p, const char *to, struct restored *ret, struct err *e);
/* The same from a stream. *ret_point is to be freed with point_fini, also on failure. */
int restore_stream(int fd, const char *to, struct point *ret_point, struct restored *ret, struct err *e);

#endif
