/* Files on their way to batchmgr: whether one may come, and giving it over. What is asked is asked for the request's tenant. */
#ifndef SIMBDP_GATEWAY_HANDOVER_H
#define SIMBDP_GATEWAY_HANDOVER_H

#include "pool.h"
#include "spool.h"

struct request;

struct handover {
    const char *dataset, *name; /* name NULL, of a check: no file in particular */
    const char *app;            /* NULL: by the tenant's rules */
    const char *trace;          /* of which it is a part, as it is kept (base/trace_context.h); NULL: of the request's */
    const char *key;            /* Idempotency-Key; NULL: none */
    bool force;
};

/* size negative: not known. The answer (batchmgr's upload_check; NULL: it is not there) comes later; the request waits. False: it
 * was refused. */
bool handover_check(struct request *rq, const struct handover *what, int64_t size, pool_answer_fn *fn, void *arg);

/* Syncs a complete file, unless it has ended already, and offers it. Then `done` is called with batchmgr's answer (hand_in), or
 * NULL where that is not known or the disk failed: the request is answered already then. The file is batchmgr's, unless it refused.
 * The request waits; `done` lets it go on. */
void handover_give(struct request *rq, const struct handover *what, struct spool_file *file, int64_t size, pool_answer_fn *done,
                   void *arg);

/* Answers what batchmgr said: 201, or 200 where it was taken before, and what it is; `status` not 0: that, and nothing but where it
 * is. */
void handover_answer(struct request *rq, const struct handover *what, int64_t size, const bson_t *doc, unsigned status);

#endif
