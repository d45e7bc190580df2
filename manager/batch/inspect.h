/* The pool of inspectors: who is inspected next, and what came of it. */
#ifndef SIMBDP_INSPECT_H
#define SIMBDP_INSPECT_H

#include "batchmgr.h"
#include "inspect_proto.h"

int inspect_start(struct batchmgr *m, struct err *e);
void inspect_stop(struct batchmgr *m);
/* Queues a claimed file; admit_inspected is called with the reply. */
void inspect_submit(struct batchmgr *m, struct file *f);
/* Tenants may have come back with a reload. */
void inspect_kick(struct batchmgr *m);
/* Copies a file before it is claimed; intake_copied is called. Descriptors are taken. */
void inspect_copy(struct batchmgr *m, struct file *f, int from, int to);
/* SIGCHLD: takes the pid if it is an inspector's. */
bool inspect_reaped(struct batchmgr *m, int pid);
size_t inspect_n_queued(struct batchmgr *m);

#endif
