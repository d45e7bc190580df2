/* Looks at all names in the staging directories, a few at a time: for when inotify did not tell of one, or may not have. */
#ifndef SIMBDP_BATCHMGR_STAGING_WALK_H
#define SIMBDP_BATCHMGR_STAGING_WALK_H

#include "tenants.h"

void walk_start(struct batchmgr *m);
void walk_stop(struct batchmgr *m);
/* Begins one. `missed`: a name may have come that nobody was told of; one that is under way is followed by another then. */
void walk_begin(struct batchmgr *m, struct tenant *t, bool missed);
/* There is room for names of the tenant again: its walk, if there is one, goes on. */
void walk_has_room(struct batchmgr *m, struct tenant *t);

#endif
