/* The directories that tenants drop files into: made and given to them, and watched. inotify is a hint (staging_walk.h finds what
 * it missed). */
#ifndef SIMBDP_BATCHMGR_STAGING_H
#define SIMBDP_BATCHMGR_STAGING_H

#include "tenants.h"

/* overflow: changes were too many to be told; all directories are to be walked. */
int staging_start(struct batchmgr *m, void (*overflow)(struct batchmgr *m), struct err *e);
void staging_stop(struct batchmgr *m);
/* Makes and watches the staging directories of a tenant, and keeps others out of what else is its own; called for each on start and
 * reload. */
int staging_add_tenant(struct batchmgr *m, struct tenant *t, struct err *e);

#endif
