/* Messages into a stream, each once in effect and confirmed when it is durable; fast, since many share a request and several
 * requests are on their way. A request that is not answered, or refused for a passing reason, is sent again with the same ids, over
 * restarts of the broker, too. Messages keep their order but around such refusals. One thread. */
#ifndef SIMBDP_STREAM_PUBLISHER_H
#define SIMBDP_STREAM_PUBLISHER_H

#include "link.h"

struct publisher;

/* `stream` as docs/wire.md has it. Does not wait for the broker. */
int publisher_open(const char *endpoint, const struct link_keys *keys, const char *stream, struct publisher **ret, struct err *e);
/* Abandons what is not confirmed. NULL is fine. */
void publisher_close(struct publisher *p);
AUTO_DEFINE(publisher, publisher_close)
#define AUTO_PUBLISHER __attribute__((cleanup(publisher_close_auto)))

/* Adds a message, which is copied. Waits, up to timeout_ms (-1: for ever), while too much is unconfirmed. -ETIMEDOUT: nothing was
 * added; ERR_LIMIT: it is larger than the stream takes (nothing was added, others are not affected); ERR_REFUSED: the
 * broker refuses this publisher for good; e names the reason, and nothing more can be added. */
int publisher_put(struct publisher *p, const void *message, size_t n, int64_t timeout_ms, struct err *e);
/* The messages that are put from now on have this traceparent: WIRE_TRACE_BYTES; NULL: none. A broker of an earlier version, which
 * knows of none, is sent them without. */
void publisher_set_trace(struct publisher *p, const unsigned char *trace);
/* And this key, which says to which partition of the stream they go, and what is in order: up to WIRE_MAX_KEY bytes; 0: none. A
 * broker of an earlier version refuses it. -EMSGSIZE. */
int publisher_set_key(struct publisher *p, const void *key, size_t n);
/* Sends what is left and waits until all is confirmed. -ETIMEDOUT, ERR_REFUSED. */
int publisher_flush(struct publisher *p, int64_t timeout_ms, struct err *e);
/* Takes what answers there are, sends again what is due, waiting at most ms: for callers that have nothing to add for long. */
int publisher_pump(struct publisher *p, int64_t ms, struct err *e);

uint64_t publisher_confirmed(const struct publisher *p);
uint64_t publisher_unconfirmed(const struct publisher *p);
/* How many times the broker refused a request for a while (it is sent again), and the last time why. */
uint64_t publisher_deferred(const struct publisher *p, struct link_refusal *ret_last);

#endif
