/* The pool of inspectors: whose file is inspected next, and what came of it. Inspectors also copy, where a file cannot be renamed.
 */
#ifndef SIMBDP_BATCHMGR_INSPECT_H
#define SIMBDP_BATCHMGR_INSPECT_H

#include "manager/inspect_proto.h"
#include "model.h"

struct batchmgr;

/* What an inspector found; `figures`: further members of the file's quality, as JSON; NULL: none. */
typedef void (*inspect_fn)(struct batchmgr *m, struct file *f, const struct inspect_reply *re, const char *figures);

struct inspect_copy_ops {
    /* It is the file's turn. 0: what from and what to, which the caller closes; -1: the file was put off, or finished. */
    int (*begin)(struct batchmgr *m, struct file *f, int ret_fds[2]);
    void (*copied)(struct batchmgr *m, struct file *f, bool ok, const char *detail);
};

void inspect_start(struct batchmgr *m, inspect_fn inspected);
void inspect_stop(struct batchmgr *m);

/* Queues a claimed file. One that an inspector fails on twice is answered for here. */
void inspect_submit(struct batchmgr *m, struct file *f);
/* Queues a file that is to be copied. ops are borrowed. */
void inspect_copy(struct batchmgr *m, struct file *f, const struct inspect_copy_ops *ops);
/* Tenants may have come back with a reload. */
void inspect_kick(struct batchmgr *m);
size_t inspect_n_queued(struct batchmgr *m); /* with those that are being looked at */

#endif
