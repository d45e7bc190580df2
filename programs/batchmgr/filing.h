/* The end of a file: final state, archive or quarantine with its reason, report. */
#ifndef SIMBDP_BATCHMGR_FILING_H
#define SIMBDP_BATCHMGR_FILING_H

#include "files.h"

/* Where a file goes on that filing has done with. */
struct filing_ops {
    file_fn filed; /* it is filed away, and not among the unfinished files any more; freed after this */
    file_fn retry; /* its bytes are back in work/: `received`, to be looked at from the start, or `waiting` */
    file_fn queue; /* it waited, and need not any longer */
    void (*end_committed)(struct batchmgr *m, struct run *r); /* the run that the file ended with */
};

void filing_start(struct batchmgr *m, const struct filing_ops *ops); /* ops are borrowed */
void filing_stop(struct batchmgr *m);

/* Gives the file its final state and files it away. `run` (NULL: none) has ended with it; its row is committed in the
 * same transaction and its runner acknowledged after. detail is copied, reason too. */
void filing_finish(struct batchmgr *m, struct file *f, enum file_state state, const char *reason, const char *detail,
                   struct run *run);
/* Takes up filing where a crash left it: the state is final, the bytes are still in work/. */
void filing_resume(struct batchmgr *m, struct file *f);

/* Brings a filed file back to work/ and queues it (the `retry` command). */
int filing_retry(struct batchmgr *m, const char *file_id, struct err *e);

/* Removes the bytes of a filed file; its row is the caller's to put. 0 or -errno: some may be left. */
int filing_discard(struct batchmgr *m, struct file *f);
/* The same for who no longer wants it (the `delete` op): a quarantined or rejected file, whose row stays. fn is called when that is
 * durable, also where the bytes were gone already; drop when batchmgr ends before. ERR_REFUSED: it is in another state; `busy`
 * while it is still being filed; -ENOENT. */
int filing_delete(struct batchmgr *m, const char *file_id, void (*fn)(void *arg), void *arg, void (*drop)(void *arg),
                  struct err *e);
/* 0: the file is the tenant's; -ENOENT: it is another one's, or there is none. */
int filing_check_tenant(struct batchmgr *m, const char *file_id, const char *tenant, struct err *e);

/* Where the bytes of a filed file lie, relative to the home. The caller frees it. */
char *filing_path(const struct file *f);
/* What lies in done/ and quarantine/ of a file whose bytes are in work/: the rest of a way between file systems. */
void filing_drop_filed(struct batchmgr *m, const struct file *f);

#endif
