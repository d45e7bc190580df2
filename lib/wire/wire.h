/* The protocol between the broker and its publishers and consumers: docs/wire.md says what each frame means. ZeroMQ multipart,
 * DEALER to ROUTER; numbers are little-endian. */
#ifndef SIMBDP_WIRE_WIRE_H
#define SIMBDP_WIRE_WIRE_H

#include "base/le.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_VERSION = 1,
    WIRE_HEADER_BYTES = 8,
    WIRE_EPOCH_BYTES = 16,
    WIRE_MAX_FRAMES = 8,              /* of any request or answer */
    WIRE_MIN_REQUEST_BYTES = 1 << 20, /* a publish may always carry this much, and one message of the stream's size */
    WIRE_MAX_NAME = 128,              /* "tenant/stream" */
    WIRE_MAX_RANGES = 4096,
    WIRE_MAX_ROWS = 65536, /* of a message */
    WIRE_MAX_REASON = 1024,
    WIRE_DELIVERY_BYTES = 24, /* of the list in DELIVER, a message */
    WIRE_MAX_KEY = 1024,
    WIRE_TRACE_BYTES = 26, /* a traceparent, packed: base/trace_context.h */
    WIRE_WANTS_TRACES = 1, /* bits of SUBSCRIBE's last frame */
};

#define WIRE_NEVER UINT32_MAX /* a NACK's delay: a dead letter at once */

enum wire_verb {
    /* to the broker */
    WIRE_PING = 1,
    WIRE_PUBLISH,
    WIRE_SUBSCRIBE,
    WIRE_UNSUBSCRIBE,
    WIRE_ACK,
    WIRE_NACK,
    WIRE_EXTEND,
    WIRE_DESCRIBE,
    /* from it */
    WIRE_PONG = 64,
    WIRE_CONFIRM,
    WIRE_REFUSED,
    WIRE_SUBSCRIBED,
    WIRE_DELIVER,
    WIRE_DONE,
    WIRE_DESCRIBED,
};

/* Why something was refused. */
#define WIRE_CODES(X)                                                                                                              \
    X(quota)     /* more messages in one request than the stream takes */                                                          \
    X(size)      /* a message, or the request, is too large */                                                                     \
    X(rate)      /* too many messages or bytes a second: again after retry_after_ms */                                             \
    X(full)      /* the stream's bytes, or the disk: again after retry_after_ms */                                                 \
    X(auth)      /* not this peer's */                                                                                             \
    X(suspended) /* the tenant, or after too many breaches the stream */                                                           \
    X(unknown)   /* no such stream or subscription */                                                                              \
    X(protocol)  /* malformed */                                                                                                   \
    X(busy)      /* answers pile up unread, or too much at once: again after retry_after_ms */                                     \
    X(moving)    /* the tenant is on its way to another home: again after retry_after_ms, perhaps there */                         \
    X(moved)     /* another home has the tenant */

enum wire_code {
#define X(name) WIRE_##name,
    WIRE_CODES(X)
#undef X
        WIRE_N_CODES
};

const char *wire_code_name(enum wire_code code);

struct wire_frame {
    const void *p;
    size_t n;
};

struct wire_header {
    uint8_t verb;
    uint16_t consumer;
    uint32_t request;
};

struct wire_range {
    uint64_t first, last;
};

/* A request; pointers are into its frames. */
struct wire_request {
    struct wire_header h;
    char stream[WIRE_MAX_NAME + 1], subscription[WIRE_MAX_NAME + 1];
    uint64_t publisher, number;           /* PUBLISH */
    const unsigned char *lengths, *bytes; /* lengths: n unaligned u32, whose sum is n_bytes */
    size_t n, n_bytes;
    const unsigned char *traces; /* PUBLISH: n_traces traceparents, of 0, 1 (it is every message's) or n; any bytes */
    size_t n_traces;
    const unsigned char *key; /* PUBLISH: of all its messages; NULL: none */
    size_t n_key;
    uint32_t max_messages; /* SUBSCRIBE */
    uint64_t max_bytes;
    uint32_t wants;              /* SUBSCRIBE: WIRE_WANTS_… */
    const unsigned char *ranges; /* ACK, NACK, EXTEND: n of them, unaligned; see wire_range_at */
    const unsigned char *rows;   /* ACK: a u32 for each range, how many rows each of its messages made; NULL: not told */
    uint32_t delay_ms;           /* NACK; or WIRE_NEVER */
    char reason[WIRE_MAX_REASON + 1];
};

/* False when the frames are no request; *ret_why says what is wrong then, and ret->h is filled as far as it could be read. */
bool wire_parse(const struct wire_frame *v, size_t n, struct wire_request *ret, const char **ret_why);
struct wire_range wire_range_at(const struct wire_request *rq, size_t i);

void wire_add_header(struct buf *b, enum wire_verb verb, uint16_t consumer, uint32_t request);
/* Reads a header; false when it is none. */
bool wire_header(const struct wire_frame *f, struct wire_header *ret);

#endif
