/* Spans of messages, for who exports traces to a collector of OpenTelemetry's (docs/metrics.md): `publish` for what a request
 * stored, `process` for what a consumer was given and has settled, with a link to the `publish` of each. Only of messages whose
 * traceparent says that their trace is recorded, and only where traces are exported.
 *
 * They are lines in the tenant's spans.jsonl, which the broker's keeper writes once a second. There are at most so many (spans.c):
 * what is more is counted, and nobody waits. They are worth less than messages: a broker that is killed loses those of the last
 * second, and of what was held. */
#ifndef SIMBDP_BROKER_SPANS_H
#define SIMBDP_BROKER_SPANS_H

#include "broker.h"

/* The traces of a request's messages, as they are stored: of each message, or of all (n 1), MESSAGE_TRACE_BYTES. Where there is a
 * `publish` span they belong below it, else below whoever sent them. */
struct spans_traces {
    unsigned char *v;
    bool *are; /* whether there is one */
    size_t n;
    size_t begun; /* spans, at the end of those of this turn */
};

void spans_begin(struct broker_stream *st, const struct wire_request *rq, struct spans_traces *ret);
const void *spans_trace_of(const struct spans_traces *t, size_t i); /* NULL: that message has none */
/* Ends it: so many of the request's messages were stored; 0: there is nothing to tell. */
void spans_stored(struct broker *b, struct spans_traces *t, size_t n_stored);
/* Ends it, and takes its spans out of the turn: what becomes of the request is known later. held: empty; the caller's, who gives it
 * back when the messages are stored, or frees it. */
void spans_hold(struct broker *b, struct spans_traces *t, struct buf *held);
void spans_give_back(struct broker *b, const struct buf *held);
/* What was stored in this turn is durable. */
void spans_committed(struct broker *b);

/* A message was sent to the consumer. trace: MESSAGE_TRACE_BYTES. */
void spans_delivered(struct broker_consumer *bc, uint64_t seq, const unsigned char *trace);
/* The consumer settled these, which are in order and apart. rows: as of an ACK, or NULL. why NULL: they are done. */
void spans_settled(struct broker_consumer *bc, const struct range *v, const uint32_t *rows, size_t n, const char *why);
/* It is gone. why NULL: nothing is told of what it held. */
void spans_end(struct broker_consumer *bc, const char *why);

/* No more is told of it. */
void spans_forget(const struct broker_stream *st);
/* Once a second: the keeper is given what there is, and counting begins anew. */
void spans_tick(struct broker *b);

#endif
