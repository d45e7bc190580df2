/* Constraints, quotas and routing: what is refused before any run. Duplicates are duplicates.h. */
#ifndef SIMBDP_BATCHMGR_ADMIT_H
#define SIMBDP_BATCHMGR_ADMIT_H

#include "manager/inspect_proto.h"
#include "model.h"

#include "base/err.h"

struct batchmgr;
struct conf_dataset;
struct tenant;

/* A file as far as it can be judged without its content. */
struct offer {
    const char *name;
    const char *app; /* asked for; NULL: none */
    int64_t size;    /* -1: not known */
    bool is_here;    /* it counts among the tenant's files already */
};

/* What the agreement says against it: 0, or ERR_REFUSED with the reason that the ledger would have. The tenant is configured. */
int admit_check(struct batchmgr *m, struct tenant *t, const struct conf_dataset *d, const struct offer *o, struct err *e);
/* How many bytes a file of the dataset may have now; -1: any number. */
int64_t admit_max_bytes(struct batchmgr *m, struct tenant *t, const struct conf_dataset *d);

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
