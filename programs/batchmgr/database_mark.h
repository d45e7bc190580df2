/* Whether a MongoDB of ours is the one that the home had, and has all that it had: one that was emptied, restored to an earlier
 * time, or is another one answers as well as any, and the ledger goes on saying ingested.
 *
 * A document of HEALTH_DATABASE, {_id: "home", id: drawn once, n: counted up by each probe}; state/mongo.mark says both again, one
 * line <id, 26 characters> <n, 20 digits>\n that is overwritten when the server has acknowledged, and not synced: a power cut may
 * leave it behind the document, never ahead. */
#ifndef SIMBDP_BATCHMGR_DATABASE_MARK_H
#define SIMBDP_BATCHMGR_DATABASE_MARK_H

#include "host/home.h"

#include <mongoc/mongoc.h>

struct dbmark {
    int dirfd; /* of the home; borrowed */
    bool compared;
};

/* Counts once more; the first time it says in the log what does not agree. False: the server does not take it. */
bool dbmark_write(struct dbmark *m, mongoc_client_t *c, const char *database, bson_error_t *be);

#endif
