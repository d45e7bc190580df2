/* What a peer may ask for, by verb (docs/wire.md). */
#ifndef SIMBDP_BROKER_REQUESTS_H
#define SIMBDP_BROKER_REQUESTS_H

#include "broker.h"

/* Acts upon a well-formed request: it is answered now or at the end of a turn. TAKE m, where it has to wait. */
void requests_act(struct session *s, const struct wire_request *rq, struct zmtp_message *m);

#endif
