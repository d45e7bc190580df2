/* Documents into a collection, as they are: unordered batches under a server's limits, acknowledged by the majority and journaled.
 * What the server refuses document by document is counted, with the first examples. */
#ifndef SIMBDP_MONGODUMP_WRITER_H
#define SIMBDP_MONGODUMP_WRITER_H

#include "base/buf.h"
#include "base/err.h"

#include <mongoc/mongoc.h>
#include <stdbool.h>

struct writer {
    mongoc_collection_t *to; /* borrowed */
    const char *name;        /* of it, for errors */
    bool bypass;             /* its validator is not asked: the documents were there already */
    struct buf documents;    /* one behind another */
    size_t n;
    int64_t duplicates; /* refused: something has that _id, or that value of a unique index */
    int64_t refused;    /* for another reason */
    void (*on_refused)(void *arg, const bson_t *doc, const char *why);
    void *arg;
};

void writer_fini(struct writer *w);
/* Sends when there is enough. 0; ERR_DATABASE: the server is gone, or refuses nearly all. */
int writer_insert(struct writer *w, const bson_t *doc, struct err *e);
/* Sends the rest. */
int writer_flush(struct writer *w, struct err *e);
/* Deletes documents of these _ids: n documents, one behind another, of which only that counts. */
int writer_delete(struct writer *w, const struct buf *documents, struct err *e);

#endif
