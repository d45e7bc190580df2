/* Which stream and subscription a request means, and whether its peer may touch them. */
#ifndef SIMBDP_BROKER_LOOKUP_H
#define SIMBDP_BROKER_LOOKUP_H

#include "broker.h"

/* The stream that a request names: "stream" of the peer's own tenant, or "tenant/stream". NULL: there is none in the configuration,
 * or it is not the peer's; the request was refused. */
struct broker_stream *lookup_stream(struct session *s, const struct wire_request *rq);
/* NULL: the app has no subscription of this stream in the configuration. */
struct broker_sub *lookup_sub(const struct broker_stream *st, const char *app);

#endif
