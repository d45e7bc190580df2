/* Constraints, quotas and routing: what is refused before any run. Duplicates are duplicates.h. */
#ifndef SIMBDP_BATCHMGR_ADMIT_H
#define SIMBDP_BATCHMGR_ADMIT_H

#include "manager/inspect_proto.h"
#include "model.h"

struct batchmgr;

/* Checks that need no content, then hands the file to the inspectors. */
void admit_claimed(struct batchmgr *m, struct file *f);
/* `figures`: further members of its quality, as JSON; NULL: none. */
void admit_inspected(struct batchmgr *m, struct file *f, const struct inspect_reply *re, const char *figures);
/* Queues a file for its app (again). */
void admit_queue(struct batchmgr *m, struct file *f);
/* Ends the file as rejected, with a reason code and its text. */
void admit_reject(struct batchmgr *m, struct file *f, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
