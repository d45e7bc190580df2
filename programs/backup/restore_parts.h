/* What restore.c (files) and restored_ledger.c (the ledger of the home that was restored) share. */
#ifndef SIMBDP_BACKUP_RESTORE_PARTS_H
#define SIMBDP_BACKUP_RESTORE_PARTS_H

#include "restore.h"

#include "term/progress.h"

struct restoring {
    struct store *store;
    const struct point *point;
    struct restored *ret;
    char *path;
    int dirfd;
    unsigned char *room;
    struct buf home_json;
    struct entry *dirs; /* whose owners and modes are given at the end */
    size_t n_dirs;
    int64_t bytes;
    struct progress progress;
};

/* ---- restored_ledger.c ---- */

/* Gives the tenants the uids of the home's new block. */
int move_tenants(struct restoring *r, struct err *e);
/* Tenants that the home that the backup is of, if it is there, has given to another one since: neither is this one's. */
int keep_moved(struct restoring *r, struct err *e);
/* What the home that the backup is of has by now, if it is there. */
void look_later(struct restoring *r);

#endif
