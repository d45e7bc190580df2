/* Documents into a MongoDB collection, each exactly once in effect, fast: BSON is built once, straight into the insert
 * command, and several commands are in flight, each over a connection and in a thread of its own. The caller's side is for
 * one thread; what the callbacks below are called from is that thread, too, within sink_row, sink_flush and sink_finish.
 *
 * Every command is acknowledged (majority, journal). A command that fails for a passing reason (connection lost, primary
 * changed, shutting down) is sent again for 20 s: _ids are the caller's, so what was stored already answers with E11000 on
 * _id, which counts as stored. */
#ifndef SIMBDP_LOAD_SINK_H
#define SIMBDP_LOAD_SINK_H

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "read/spec.h"

#include <mongoc/mongoc.h>
#include <stdbool.h>
#include <stdint.h>

enum { SINK_ID_BYTES = 24 };

/* A row that the server did not take. */
struct sink_refusal {
    int64_t line, offset;
    const char
        *rule; /* "key": another row has its key; "server": refused for another reason, or "shard": as no shard would take it */
    const char *message, *raw;
    size_t n_raw;
};

struct sink_options {
    const char *url, *database, *collection;
    bool replace;            /* a row replaces the one with its _id */
    bool fresh;              /* rows get ObjectIds of their own, whatever sink_begin is given; not with replace */
    const struct spec *spec; /* NULL: none; of it, the shard key, which the filter of a row that replaces has to have */
    bool in_order;           /* one command at a time: of two rows with one key the first wins (with replace, the last) */
    void *arg;
    void (*on_refused)(void *arg, const struct sink_refusal *why);
    /* All rows up to this end (of sink_row) are stored or refused. n: how many more are stored. */
    void (*on_acknowledged)(void *arg, int64_t end, int64_t n);
};

struct sink;

/* Connects; does not ask the server anything. ERR_CONFIG: the URL. The strings are copied; `spec` is borrowed. */
int sink_open(const struct sink_options *o, struct sink **ret, struct err *e);
void sink_close(struct sink *s); /* abandons what was not flushed; accepts NULL */
AUTO_DEFINE(sink, sink_close)
#define AUTO_SINK __attribute__((cleanup(sink_close_auto)))

/* For what has to be done before the first row. */
mongoc_collection_t *sink_collection(struct sink *s); /* borrowed; majority, journal */

/* Begins a document and gives the buffer to append its elements to (behind _id). */
struct buf *sink_begin(struct sink *s, const unsigned char id[SINK_ID_BYTES]);
void sink_cancel(struct sink *s);
/* Another _id for the document under construction, once its elements show which. */
void sink_set_id(struct sink *s, const unsigned char id[SINK_ID_BYTES]);
/* Ends it. line, offset, raw: what a refusal will name; end: what an acknowledgement will. Sends when enough came together,
 * and waits for a command to end when too many are in flight. Errors are those of sink_flush. */
int sink_row(struct sink *s, int64_t line, int64_t offset, int64_t end, const char *raw, size_t n, struct err *e);
/* Rows that are there already (a resumed load) or are none move the end, too. */
void sink_passed(struct sink *s, int64_t end);

/* For rows that come slowly: acknowledges what is done, and sends what came together if a connection is idle. Does not wait for the
 * database. Errors as sink_flush. */
int sink_push(struct sink *s, struct err *e);
/* An eventfd that is written to when a command has ended, so that sink_push has something to do. Borrowed. Before the first row. */
void sink_set_wake_fd(struct sink *s, int fd);

/* Sends what is left and waits for everything. -ECONNREFUSED: the database does not answer; -EACCES: it refuses us;
 * ERR_DATABASE: anything else that is no row's fault. After an error nothing more is sent. */
int sink_flush(struct sink *s, struct err *e);

/* With replace: how many of the rows that were acknowledged replaced none. Of a command that was sent again none may be known. */
int64_t sink_n_added(const struct sink *s);

/* The class of a driver's error, as above. */
int sink_error(const bson_error_t *be, const char *what, struct err *e);

/* Bytes of BSON that fit a row. */
enum { SINK_MAX_DOCUMENT = (16 << 20) - 4096 };

#endif
