/* Streams that are kept in Kafka (docs/kafka.md). What is published goes to the stream's topic, by simbdp-kafka, and is confirmed
 * when Kafka has it; what is in the topic comes back in its order into the store's copy (store/mirror.c), from where it is
 * delivered like any message. */
#ifndef SIMBDP_BROKER_KAFKA_H
#define SIMBDP_BROKER_KAFKA_H

#include "broker.h"

/* Before rights are given up, where the configuration has `kafka`. */
int kafka_prepare(struct broker *b, struct err *e);
/* The configuration changed: streams move to Kafka, or back. */
void kafka_apply(struct broker *b);
void kafka_tick(struct broker *b); /* once a second */
void kafka_stop(struct broker *b);
/* The stream's record goes. */
void kafka_forget_stream(struct broker_stream *st);

void kafka_forget_sub(struct broker_sub *bs);

/* Whether its messages go there. Else they go to the store. */
bool kafka_keeps(const struct broker_stream *st);
/* What speaks against it does: the limits were looked at. It is answered when Kafka has answered. */
void kafka_publish(struct session *s, const struct wire_request *rq, struct broker_stream *st);
/* The session goes: nobody waits for its answers. */
void kafka_forget_session(struct session *s);

/* How many of the stream's partitions this broker serves: all, where it is not shared. */
int64_t kafka_n_here(const struct broker_stream *whole);
/* Bytes of those that others serve, as they said last. */
int64_t kafka_bytes_elsewhere(const struct broker_stream *whole);
/* Bytes that Kafka has not confirmed yet. */
int64_t kafka_bytes_under_way(const struct broker_stream *st);
/* Fields of a listing: `store`, `topic`, `kafka` (why nothing can be published, or null). */
void kafka_tell(const struct broker_stream *st, struct buf *out);
/* A field `kafka`: what is wrong with any of them; null: nothing is, or there is none. */
void kafka_tell_all(const struct broker *b, struct buf *out);
size_t kafka_n_stopped(const struct broker *b); /* with which anything is wrong */

#endif
