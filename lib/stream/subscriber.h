/* A consumer of a subscription (docs/wire.md): takes batches of messages, acknowledges them when the caller is done. Subscribes
 * again by itself when the broker is a new one; what was held then is delivered again, here or elsewhere. One thread. */
#ifndef SIMBDP_STREAM_SUBSCRIBER_H
#define SIMBDP_STREAM_SUBSCRIBER_H

#include "link.h"

struct subscriber;

struct subscriber_message {
    uint64_t seq;
    int64_t published_ms;
    uint32_t deliveries;
    const char *p; /* valid until the next subscriber_next */
    size_t n;
    const unsigned char *trace; /* WIRE_TRACE_BYTES: its traceparent; NULL: it has none, or they are not wanted. As p */
};

struct subscriber_batch {
    const struct subscriber_message *v;
    size_t n;
    unsigned char epoch[WIRE_EPOCH_BYTES]; /* of all of them */
};

/* Holds at most max_messages and max_bytes unacknowledged. Does not wait for the broker. */
int subscriber_open(const char *endpoint, const struct link_keys *keys, const char *stream, const char *subscription,
                    uint32_t max_messages, uint64_t max_bytes, struct subscriber **ret, struct err *e);
/* From here on messages are acknowledged before they are given out, and only those are given out whose acknowledgement the broker
 * has written and nobody else's was before: nobody else is given them, whatever is killed. ack, nack and extend do nothing then.
 * Before the first subscriber_next. */
void subscriber_ack_first(struct subscriber *s);
/* Messages are to come with their traceparents, as far as the broker knows of such. Before the first subscriber_next. */
void subscriber_want_traces(struct subscriber *s);
/* At the end: takes no more, and waits (a second at most) until it is known which of those that were acknowledged are ours. True:
 * there are some that were not given out; subscriber_next does not wait from now on. Without subscriber_ack_first: false. */
bool subscriber_owes(struct subscriber *s);
/* Gives back what is held, if the broker is there. NULL is fine. */
void subscriber_close(struct subscriber *s);
AUTO_DEFINE(subscriber, subscriber_close)
#define AUTO_SUBSCRIBER __attribute__((cleanup(subscriber_close_auto)))

/* Another window; the broker is told with the next subscriber_next. */
void subscriber_set_window(struct subscriber *s, uint32_t max_messages, uint64_t max_bytes);
/* subscriber_next returns early, with 0, while fd is readable. Borrowed. */
void subscriber_watch(struct subscriber *s, int fd);

/* Waits up to `ms` for messages: 1 and a batch, 0 when none came. ERR_REFUSED: the broker refuses this subscriber; e says why. */
int subscriber_next(struct subscriber *s, int64_t ms, struct subscriber_batch *ret, struct err *e);
/* Done; given back after delay_ms, for `why`; held for another lease. Sent at once, without an answer. */
void subscriber_ack(struct subscriber *s, const struct wire_range *v, size_t n);
/* rows: how many each message of a range made, for the tenant's figures; the ranges are in order and apart. */
void subscriber_ack_rows(struct subscriber *s, const struct wire_range *v, const uint32_t *rows, size_t n);
void subscriber_nack(struct subscriber *s, const struct wire_range *v, size_t n, uint32_t delay_ms, const char *why);
void subscriber_extend(struct subscriber *s, const struct wire_range *v, size_t n);

uint32_t subscriber_lease_ms(const struct subscriber *s); /* from the first batch on */

#endif
