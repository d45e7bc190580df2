/* Who wants to know that a subscription has messages and no consumer: streammgr, which starts instances of on_demand apps. */
#ifndef SIMBDP_BROKER_WATCHERS_H
#define SIMBDP_BROKER_WATCHERS_H

#include "broker.h"

/* The connection becomes a watcher. -1: there are enough already. */
int watchers_add(struct broker *b, struct ctl_conn *c);
void watchers_remove(struct broker *b, struct ctl_conn *c); /* nothing, where it is none */
void watchers_end(struct broker *b);
/* Tells all watchers: the subscription needs an instance. */
void watchers_activate(struct broker_sub *bs);
/* Tells one, where a subscription is known to need an instance. */
void watchers_tell(struct ctl_conn *c, const struct broker_sub *bs);
/* {"tenant_id","stream","app"}. */
void watchers_add_sub(struct buf *out, const char *key, const struct broker_sub *bs);

#endif
