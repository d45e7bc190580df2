/* Constraints, routing and duplicates: what is refused before any run. */
#ifndef SIMBDP_BATCHMGR_ADMIT_H
#define SIMBDP_BATCHMGR_ADMIT_H

#include "manager/inspect_proto.h"
#include "model.h"

struct batchmgr;

void admit_start(struct batchmgr *m);
void admit_stop(struct batchmgr *m);

/* Checks that need no content, then hands the file to the inspectors. */
void admit_claimed(struct batchmgr *m, struct file *f);
/* `figures`: further members of its quality, as JSON; NULL: none. */
void admit_inspected(struct batchmgr *m, struct file *f, const struct inspect_reply *re, const char *figures);
/* Queues a file for its app (again). */
void admit_queue(struct batchmgr *m, struct file *f);
/* The same after a look for the same content: what was retried may have come in another way meanwhile. */
void admit_again(struct batchmgr *m, struct file *f);
/* Lets files with the same content go on, now that `f` has its final state. */
void admit_followers(struct batchmgr *m, struct file *f);
/* Enters an in-flight file's content in the index (recovery). */
void admit_index(struct batchmgr *m, struct file *f);
void admit_unindex(struct batchmgr *m, struct file *f);

#endif
