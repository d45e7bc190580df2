/* What the sink's two sides share: the caller's thread fills batches and collects them (sink.c), workers send them
 * (sink_worker.c). */
#ifndef SIMBDP_LOAD_SINK_PARTS_H
#define SIMBDP_LOAD_SINK_PARTS_H

#include "sink.h"

#include "base/buf.h"

#include <mongoc/mongoc.h>
#include <pthread.h>

enum { MAX_WORKERS = 2 /* one hides the other's round trip; three cost the embedded server a fifth (its lock) */ };

struct row {
    int64_t line, offset;
    size_t raw_at, n_raw, doc_at; /* doc_at: of the row's _id in the command */
};

struct batch {
    enum batch_state { FREE, FILLING, QUEUED, WORKING, DONE } state; /* under the sink's lock */
    uint64_t number;
    struct buf command, raw;
    size_t array_at; /* of the array's length */
    struct row *rows;
    size_t n_rows, cap_rows;
    int64_t end;
    bool failed, exhausted; /* exhausted: there was no memory */
    bson_t reply;           /* initialised when DONE */
    bson_error_t error;
    bool *ours; /* rows whose key is there already, under their own _id: stored before */
};

struct worker {
    struct sink *s;
    pthread_t thread;
    mongoc_client_t *client;
    mongoc_collection_t *collection;
};

struct sink {
    struct sink_options o;
    char *database, *collection_name;
    mongoc_uri_t *uri;
    mongoc_client_t *client; /* the caller's thread's */
    mongoc_collection_t *collection;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    _Atomic bool quit;
    int wake_fd; /* borrowed; -1: none */
    struct worker workers[MAX_WORKERS];
    size_t n_workers, max_workers;
    int64_t n_added;
    struct batch batches[MAX_WORKERS + 1];
    size_t n_batches;
    struct batch *filling;
    uint64_t next_number, collected;
    size_t row_at; /* of the document under construction */
    size_t element_at;
    bool routed;       /* by a mongos, by the shard key of the spec; where rows replace */
    struct buf filter; /* of the row that replaces */
    int64_t passed;
    int broken;
};

/* One more worker, when all are busy. Where no thread can be had, the caller's own does the work. */
void sink_add_worker(struct sink *s);
/* Sends the batch, with what is tried again; its reply is there afterwards. On a worker's thread, or where there is none the
 * caller's. Blocks. */
void sink_run_batch(struct worker *w, struct batch *b);
/* The class of what made it fail (sink.h): also where the server itself says of a code of its own that it is worth another try. */
int sink_batch_error(const struct batch *b, const char *what, struct err *e);
/* The batch that was filled first of those that wait; NULL: none does. With the lock held. */
struct batch *sink_queued(struct sink *s);
/* Whether the refusal is of a row that was stored before, under its own _id. */
bool sink_is_id_conflict(const char *message);

#endif
