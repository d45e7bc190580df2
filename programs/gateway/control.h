/* The gateway's own control socket: for `up`, which says where it is. */
#ifndef SIMBDP_GATEWAY_CONTROL_H
#define SIMBDP_GATEWAY_CONTROL_H

#include "base/err.h"

struct gateway;

/* With the rights of who starts the gateway. */
int control_start(struct gateway *g, const char *url, struct err *e);
void control_stop(struct gateway *g);

#endif
