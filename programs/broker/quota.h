/* What a stream's configuration says against a request (rate, quota), and against handing out more (rows). */
#ifndef SIMBDP_BROKER_QUOTA_H
#define SIMBDP_BROKER_QUOTA_H

#include "broker.h"

/* WIRE_N_CODES, or what the request is refused with: how long to wait (0: it will never pass), and why. Takes nothing. */
enum wire_code quota_broken(struct broker_stream *st, const struct wire_request *rq, int64_t *ret_wait_ms, char *text, size_t size);
/* The request was let in. */
void quota_take(struct broker_stream *st, const struct wire_request *rq);

/* The app made so many rows of messages. */
void quota_take_rows(struct broker_sub *bs, uint64_t n);
/* How long it gets no messages for that, ms. */
int64_t quota_rows_wait_ms(struct broker_sub *bs);

/* What one request may have. */
int64_t quota_messages(const struct conf_stream *c);
int64_t quota_bytes(const struct conf_stream *c);

/* What it takes of the stream's bytes: its messages, and their traceparents. */
int64_t quota_request_bytes(const struct wire_request *rq);

#endif
