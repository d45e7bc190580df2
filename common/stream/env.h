/* Where an app's stream is, from its environment: ZMQ_STREAM_ENDPOINT, SIMBDP_STREAM (a name, or TENANT/STREAM), SIMBDP_TENANT_ID,
 * SIMBDP_APP (the subscription), and on tcp SIMBDP_CURVE_SERVER_KEY, SIMBDP_CURVE_PUBLIC_KEY, SIMBDP_CURVE_SECRET_KEY. */
#ifndef SIMBDP_STREAM_ENV_H
#define SIMBDP_STREAM_ENV_H

#include "link.h"

struct stream_env {
    const char *endpoint, *app; /* of the environment */
    struct link_keys keys;
    char *stream; /* as docs/wire.md has it */
};

/* ERR_CONFIG: a variable is not set. */
int stream_env_read(struct stream_env *ret, struct err *e);
/* The same for a publisher, which has no subscription and may name the stream itself (NULL: the environment's). */
int stream_env_read_for(const char *stream, struct stream_env *ret, struct err *e);
void stream_env_fini(struct stream_env *v);

#endif
