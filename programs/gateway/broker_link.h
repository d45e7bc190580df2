/* The gateway's connection to the broker, on which it publishes for tenants (docs/wire.md). */
#ifndef SIMBDP_GATEWAY_BROKER_LINK_H
#define SIMBDP_GATEWAY_BROKER_LINK_H

#include "base/buf.h"

#include <event2/event.h>

struct broker_link;

struct broker_answer {
    bool ok;
    uint64_t max_message_bytes, max_request_bytes; /* of DESCRIBE */
    uint32_t max_messages;
    uint64_t first; /* of PUBLISH: the sequence of the first message that was stored */
    uint32_t stored, known;
    const char *code, *text; /* not ok: docs/wire.md's; "unavailable": the broker went, what it did is not known */
    uint32_t retry_after_ms;
};
typedef void broker_answer_fn(void *arg, const struct broker_answer *a);

struct broker_link *broker_link_new(struct event_base *base, const char *socket_path);
void broker_link_free(struct broker_link *l); /* nobody is called; NULL is fine */

bool broker_link_is_up(const struct broker_link *l);

/* stream: TENANT/STREAM. False: the broker is not there, or too much is under way; `fn` is not called. */
bool broker_describe(struct broker_link *l, const char *stream, broker_answer_fn *fn, void *arg);
/* n messages, one after the other in `bytes`; lengths: a little-endian u32 each. publisher 0: no protection against doubles.
 * trace: their traceparent, WIRE_TRACE_BYTES; NULL: none. */
bool broker_publish(struct broker_link *l, const char *stream, uint64_t publisher, uint64_t first, const struct buf *lengths,
                    const struct buf *bytes, const unsigned char *trace, broker_answer_fn *fn, void *arg);

#endif
