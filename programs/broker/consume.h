/* What consumers ask for: subscriptions, their ends, and settling what was delivered. */
#ifndef SIMBDP_BROKER_CONSUME_H
#define SIMBDP_BROKER_CONSUME_H

#include "broker.h"

void consume_subscribe(struct session *s, const struct wire_request *rq);
void consume_unsubscribe(struct session *s, const struct wire_request *rq);
/* ACK, NACK or EXTEND. */
void consume_settle(struct session *s, const struct wire_request *rq);

/* All consumers of a session end, and what they hold is handed out to others. lost: one of the messages may be why. */
void consume_end_all(struct session *s, bool lost);
/* A stream is about to be forgotten: its consumers end. */
void consume_end_stream(struct broker *b, const struct broker_stream *st);
/* The stream has partitions that its consumers do not have yet. */
void consume_join(struct broker *b, const struct broker_stream *whole);
/* The peer listens (again): its consumers may get something. */
void consume_want(struct session *s);

#endif
