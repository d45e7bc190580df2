/* Who gets what: the consumers of a subscription in turn, each as much as its window allows; and the subscriptions in turn. */
#ifndef SIMBDP_BROKER_DELIVER_H
#define SIMBDP_BROKER_DELIVER_H

#include "broker.h"

/* Something of the subscription may have become deliverable: it is looked at in this turn's delivery. */
void deliver_want(struct broker_sub *bs);
/* Of each of the stream's partitions, of which bs is the first's. */
void deliver_want_parts(struct broker_sub *bs);
/* Of all: who is suspended or held may have changed. */
void deliver_want_all(struct broker *b);
/* A turn's delivery. True when there is more to do. */
bool deliver(struct broker *b);
/* The subscription is no more: its timer and its place go. */
void deliver_forget(struct broker_sub *bs);
/* SUBSCRIBED: the answer to a request, or (0) what comes next has another epoch. 0 or -EAGAIN. */
int deliver_terms(struct broker_consumer *bc, uint32_t request);

#endif
