/* A stream's messages into a collection, each once in effect: a subscriber on one side, a sink on the other. A message is
 * acknowledged to the broker after the database acknowledged its rows; what was not when the program ends is delivered again, and
 * makes the same _ids. Shared by simbdp-load and libsimbdp. One thread.
 *
 * That is exactly once, in effect. At least once: rows get fresh ids, and are stored twice when they are delivered twice. At most
 * once: messages are acknowledged before drain_next gives them; what is refused or given back then is told as an error, and gone.
 *
 * _id: 24 bytes: the message's epoch (16), then big-endian the message's sequence (low 48 bits) and the number of the row in the
 * message (high 16 bits), as docs/wire.md has it.
 *
 * The window follows the pace: it doubles while messages are done quickly and shrinks when they are not, so that a slow consumer
 * does not hoard what others could do. */
#ifndef SIMBDP_LOAD_DRAIN_H
#define SIMBDP_LOAD_DRAIN_H

#include "base/mem.h"
#include "read/message.h"
#include "sink.h"
#include "stream/env_read.h"
#include "stream/subscriber.h"

struct drain;

struct drain_options {
    const char *endpoint;
    struct link_keys keys;
    const char *stream, *subscription;
    uint32_t max_messages; /* held at most */
    enum stream_delivery delivery;
    const char *url, *database, *collection;
    const struct spec *spec; /* for unique indexes and on_key_conflict; borrowed, stays */
};

struct drain_counts {
    int64_t messages, acknowledged, refused; /* refused: dead letters */
    int64_t rows;                            /* stored, and acknowledged by the database */
};

/* Waits neither for the broker nor for the database. ERR_CONFIG: an endpoint, key or URL is none, or the dataset replaces by key:
 * which of two messages is the elder cannot be told when they are delivered again. */
int drain_open(const struct drain_options *o, struct drain **ret, struct err *e);
/* The same for an app in its environment: where and who as lib/stream/env_read.h has it, the database's URL MONGO_URL. */
int drain_open_here(const struct spec *spec, const char *database, const char *collection, uint32_t max_messages,
                    struct drain **ret, struct err *e);
/* The spec of a dataset for messages: they are JSON where it does not say. schema NULL or "": no rules. What rows and columns a
 * message may have are SIMBDP_MAX_ROWS and SIMBDP_MAX_COLUMNS of the environment: an app may be linked with a version that does not
 * know them. */
int drain_spec(const char *schema, struct spec **ret, struct err *e);
/* Messages are to come with their traceparents. Before the first drain_next. */
void drain_want_traces(struct drain *d);
/* Gives back what is held. NULL is fine. */
void drain_close(struct drain *d);
AUTO_DEFINE(drain, drain_close)
#define AUTO_DRAIN __attribute__((cleanup(drain_close_auto)))

/* Waits up to `ms` (-1: for ever) for the next message: 1, or 0 when none came or drain_wake was called. Meanwhile rows are stored,
 * messages acknowledged, leases extended. Errors of sink_flush and index_make; ERR_REFUSED: by the broker. Nothing works after an
 * error. */
int drain_next(struct drain *d, int64_t ms, struct subscriber_message *ret, struct err *e);
/* At the end, at most once: messages are acknowledged that drain_next has not given yet. It gives them without waiting from now on,
 * and takes no others. */
bool drain_owes(struct drain *d);
/* Whether a message may be handed to somebody once only. */
bool drain_is_at_most_once(const struct drain *d);
/* Ends the drain_next that waits, or the next one that would. Async-signal-safe. */
void drain_wake(struct drain *d);

/* What drain_next does meanwhile, for callers that are busy for long; does not wait. Errors as drain_next. */
int drain_look(struct drain *d, struct err *e);

/* One more row of a message that is held. Waits while too much is on its way. ERR_LIMIT: more than 65,536 rows. -ENOENT: it is not
 * held. Else errors as drain_next. */
int drain_row(struct drain *d, uint64_t seq, const void *elements, size_t n, struct err *e);
/* All of what message_read gave. */
int drain_rows(struct drain *d, uint64_t seq, const struct message_rows *rows, struct err *e);

/* What becomes of a message that is held. Done: acknowledged when all rows given so far are stored. Refused: a dead letter.
 * Retried: handed out again, here or elsewhere, after delay_ms. -ENOENT: it is not held. */
int drain_done(struct drain *d, uint64_t seq);
int drain_refuse(struct drain *d, uint64_t seq, const char *why);
int drain_retry(struct drain *d, uint64_t seq, uint32_t delay_ms, const char *why);

/* Waits until all rows are stored, and acknowledges what is done. Errors as drain_next. */
int drain_flush(struct drain *d, struct err *e);

void drain_counts(const struct drain *d, struct drain_counts *ret);

#endif
