/* The one bridge between a ZeroMQ socket and a libevent loop. ZMQ_FD is edge-triggered and says only that something about the
 * socket changed, and sending may take that edge away; so ZMQ_EVENTS is asked after every callback, and after zev_touch. */
#ifndef SIMBDP_ZEV_H
#define SIMBDP_ZEV_H

#include "err.h"

struct event_base;
struct zev;

/* Calls fn whenever the socket can be read, once a loop turn until it reads all there is (zmq_msg_recv gives EAGAIN) or wants to
 * go on next turn. The socket stays the caller's. */
int zev_new(struct event_base *base, void *socket, void (*fn)(void *arg), void *arg, struct zev **ret, struct err *e);
void zev_free(struct zev *z); /* before the socket is closed; NULL is fine */
/* After sending on the socket outside fn. */
void zev_touch(struct zev *z);

#endif
