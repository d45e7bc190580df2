/* What the provider's page shows: what each program says of itself, as GET /v1/platform answers it. */
#ifndef SIMBDP_GATEWAY_PLATFORM_H
#define SIMBDP_GATEWAY_PLATFORM_H

#include "platform_diff.h"

struct gateway;

/* Asks the programs, and a keeper for `machine`, by an operator's ticket; calls `fn` with what they said, perhaps before this
 * returns. Who has not answered within two seconds has no document, as who is not there; he is not asked again before he did. */
typedef void platform_fn(void *arg, const struct platform_part *parts, size_t n);
void platform_collect(struct gateway *g, const char *ticket, platform_fn *fn, void *arg);
/* Behind the pools: what they were asked is not answered any more. */
void platform_free(struct gateway *g);

#endif
