/* The duplicate check: files of one dataset with the same content (BLAKE2b-256 of the raw bytes). What was ingested before is a
 * duplicate, unless it was uploaded with force, which replaces the older rows; what is on its way holds the others back until it
 * has its final state. */
#ifndef SIMBDP_BATCHMGR_DUPLICATES_H
#define SIMBDP_BATCHMGR_DUPLICATES_H

#include "model.h"

struct batchmgr;

void duplicates_start(struct batchmgr *m);
void duplicates_stop(struct batchmgr *m);

/* Looks for the same content, in flight or ingested: the file waits, ends, or is queued (admit_queue). To be called again for what
 * was retried: it may have come in another way meanwhile. */
void duplicates_check(struct batchmgr *m, struct file *f);
/* Lets files with the same content go on, now that `f` has its final state. */
void duplicates_settle(struct batchmgr *m, struct file *f);
/* Enters an in-flight file's content in the index (recovery); takes it out. */
void duplicates_index(struct batchmgr *m, struct file *f);
void duplicates_unindex(struct batchmgr *m, struct file *f);

#endif
