/* A tenant's streams on their way from this home to another, or to it. */
#ifndef SIMBDP_BROKER_MOVING_H
#define SIMBDP_BROKER_MOVING_H

#include "broker.h"

/* The requests that begin with `move_`, as control.c lists them. As ctl_ops.serve. */
int moving_serve(struct broker *b, struct ctl_conn *c, const char *op, const bson_t *rq, struct err *e);
/* Nobody waits for an answer there any more. */
void moving_gone(struct broker *b, const struct ctl_conn *c);
/* The tenant is removed: what came of it goes. */
void moving_forget(struct broker *b, const char *tenant);
void moving_stop(struct broker *b);

/* A request about a tenant's streams that are on their way, or gone, is refused; true when it was. */
bool moving_refuses(struct session *s, const struct wire_header *h, const struct broker_tenant *t);
/* The same of an order. 0, or the refusal. */
int moving_forbids(const struct broker_tenant *t, struct err *e);

#endif
