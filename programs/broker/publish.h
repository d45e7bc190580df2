/* Publishing: whether a request may be stored, and storing it. */
#ifndef SIMBDP_BROKER_PUBLISH_H
#define SIMBDP_BROKER_PUBLISH_H

#include "broker.h"

/* PUBLISH: stored in this turn or a later one, or refused. TAKE m, where it waits. */
void publish_request(struct session *s, const struct wire_request *rq, struct zmtp_message *m);
/* One that has waited for its turn (share.h). */
void publish_parked(struct session *s, const struct wire_request *rq);

#endif
