/* Looks at all names in the staging directories, a few at a time: for when inotify did not tell of one, or may not have. */
#ifndef SIMBDP_BATCHMGR_WALK_H
#define SIMBDP_BATCHMGR_WALK_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>

struct batchmgr;
struct tenant;

struct walk { /* of a tenant's directories */
    bool on, again;
    DIR *dir;      /* where it is; NULL: between two of them */
    char *dataset; /* whose directory that is */
    size_t next;   /* dataset that comes then */
};

void walk_start(struct batchmgr *m);
void walk_stop(struct batchmgr *m);
/* Begins one. `missed`: a name may have come that nobody was told of; one that is under way is followed by another then. */
void walk_begin(struct batchmgr *m, struct tenant *t, bool missed);
/* There is room for candidates again. */
void walk_go_on(struct batchmgr *m);

#endif
