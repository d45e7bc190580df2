/* The order channel to the manager (lib/run/spec.h): one byte each way. The manager may end and another one connect at any time,
 * which then hears again what was said last. */
#ifndef SIMBDP_RUNNER_CHANNEL_H
#define SIMBDP_RUNNER_CHANNEL_H

#include "step.h"

/* How often a runner that only waits looks whether its home is there still. */
enum { CHANNEL_HOME_CHECK_MS = 10000 };

void channel_say(struct runner *r, char what); /* an enum run_said */
/* Reads an order; a stop begins the step's end. r->conn is readable. */
void channel_take_order(struct runner *r);
/* Another manager connects, in the place of the one there was. r->listener is readable. */
void channel_accept(struct runner *r);
/* Blocks until the step's end is acknowledged, or the whole home is gone. */
void channel_wait_for_ack(struct runner *r);

#endif
