/* What is deleted in a tenant's database: documents that are too old, or all of a tenant that is removed. simbdp-load does it, with
 * a job of its own. It can be done twice, so nothing of it is recorded: whoever wants it asks again until it ended well. */
#ifndef SIMBDP_BATCHMGR_DELETIONS_H
#define SIMBDP_BATCHMGR_DELETIONS_H

#include "tenants.h"

enum deletion_end { DELETION_DONE, DELETION_FAILED, DELETION_STOPPED /* by deletions_stop: how far it came is not known */ };
typedef void (*deletion_done_fn)(void *arg, enum deletion_end end);

void deletions_start(struct batchmgr *m);
void deletions_stop(struct batchmgr *m); /* ends them */

/* Begins one for the tenant (one at a time each) with the job's JSON text; `done` is called on the loop. False when it was
 * not begun: the tenant has one going, no database is known yet, or there is no process. */
bool deletions_begin(struct batchmgr *m, const struct tenant *t, const char *job, deletion_done_fn done, void *arg);
bool deletions_are_going(const struct batchmgr *m, const char *tenant);

#endif
