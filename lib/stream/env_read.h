/* Where an app's stream is, from its environment: ZMQ_STREAM_ENDPOINT, SIMBDP_STREAM (a name, or TENANT/STREAM), SIMBDP_TENANT_ID,
 * SIMBDP_APP (the subscription), SIMBDP_DELIVERY, and on tcp SIMBDP_CURVE_SERVER_KEY, SIMBDP_CURVE_PUBLIC_KEY,
 * SIMBDP_CURVE_SECRET_KEY. */
#ifndef SIMBDP_STREAM_ENV_READ_H
#define SIMBDP_STREAM_ENV_READ_H

#include "link.h"

/* What a killed consumer does to messages. Exactly once: rows have ids by which a message that is delivered again is known. At
 * least once: they have fresh ones. At most once: a message is acknowledged before anybody sees it. */
enum stream_delivery { DELIVERY_EXACTLY_ONCE, DELIVERY_AT_LEAST_ONCE, DELIVERY_AT_MOST_ONCE };

struct stream_env {
    const char *endpoint, *app; /* of the environment */
    struct link_keys keys;
    enum stream_delivery delivery;
    char *stream; /* as docs/wire.md has it */
};

/* ERR_CONFIG: a variable is not set, or is nothing that it may be. */
int stream_env_read(struct stream_env *ret, struct err *e);
/* The same for a publisher, which has no subscription and may name the stream itself (NULL: the environment's). */
int stream_env_read_for(const char *stream, struct stream_env *ret, struct err *e);
#define AUTO_STREAM_ENV __attribute__((cleanup(stream_env_fini)))
void stream_env_fini(struct stream_env *v);

#endif
