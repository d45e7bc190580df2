/* Where a request's body ends is said once, and in one way: what a proxy in front of the gateway could read otherwise than the
 * gateway (request smuggling, RFC 9112, 11.2) is refused. */
#ifndef SIMBDP_GATEWAY_FRAMING_H
#define SIMBDP_GATEWAY_FRAMING_H

#include <stdbool.h>

struct request;

/* Sets rq->length. NULL, or what is wrong. */
const char *framing_check(struct request *rq, const char *version);

/* Whether its method may change something. */
bool framing_changes(const struct request *rq);

/* Whether it would change something and comes from another site's page, as its Origin says. */
bool framing_is_foreign(const struct request *rq);

#endif
