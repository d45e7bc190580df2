/* The pool of inspectors: who is inspected next, and what came of it. */
#ifndef SIMBDP_BATCHMGR_INSPECT_H
#define SIMBDP_BATCHMGR_INSPECT_H

#include "batchmgr.h"
#include "manager/inspect_proto.h"

int inspect_start(struct batchmgr *m, struct err *e);
void inspect_stop(struct batchmgr *m);
/* Queues a claimed file; admit_inspected is called with the reply. */
void inspect_submit(struct batchmgr *m, struct file *f);
/* Tenants may have come back with a reload. */
void inspect_kick(struct batchmgr *m);
/* Queues a file that is to be copied before it is claimed: intake_open_copy is called when it is its turn, then intake_copied. */
void inspect_copy(struct batchmgr *m, struct file *f);
size_t inspect_n_queued(struct batchmgr *m);

/* What an inspector says is checked as if a tenant had said it: counts, and texts, which are made fit for people. size: of the file
 * (-1: not known). A reply that cannot be becomes one that says so. */
void inspect_check_reply(struct inspect_reply *re, int64_t size);
/* The figures as the inspector wrote them, as members to be put into an object (caller frees); NULL when they are no JSON object.
 */
char *inspect_figures(const char *json, size_t n);
/* How long an inspector may look at a file of this size. max_inspect_s -1: what its bytes may take. */
int64_t inspect_limit_ms(const struct inspect_request *rq, int64_t max_inspect_s, int64_t size);

#endif
