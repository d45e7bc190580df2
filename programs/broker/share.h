/* Fairness among publishers: a tenant's share of a turn. What is over it waits in memory, in order, for the next turns; where too
 * much waits already, requests are refused as busy. */
#ifndef SIMBDP_BROKER_SHARE_H
#define SIMBDP_BROKER_SHARE_H

#include "broker.h"

/* Whether a request of this tenant has to wait: its share is used up, or others wait already. */
bool share_is_used_up(const struct broker_tenant *t);
/* The request is acted upon in this turn. */
void share_take(struct broker_tenant *t, const struct wire_request *rq);
/* The request waits for the next turn, or is refused. TAKE m, where it waits. */
void share_park(struct session *s, const struct wire_request *rq, struct broker_tenant *t, struct zmtp_message *m);
/* The peer is gone: what it had parked is dropped when its turn comes. */
void share_forget(struct session *s);

/* A new turn for those that had their share of the last one: go_on is called with each request that waited, as far as the share
 * goes. True when some still wait. */
bool share_next_turn(struct broker *b, void (*go_on)(struct session *s, const struct wire_request *rq));

#endif
