/* What the provider's page shows: what each program says of itself, and what the keeper knows of the machine, as GET /v1/platform
 * answers it. */
#ifndef SIMBDP_GATEWAY_PLATFORM_H
#define SIMBDP_GATEWAY_PLATFORM_H

#include "platform_diff.h"

struct gateway;

/* Asks the programs and the keeper, and calls `fn` with what they said; perhaps before this returns. ticket: an operator's; the
 * keeper answers for no other. A program that has not answered within two seconds has no document, as is one that is not there; it
 * is not asked again before it did. So it is with the keeper, as the part "machine". */
typedef void platform_fn(void *arg, const struct platform_part *parts, size_t n);
void platform_collect(struct gateway *g, const char *ticket, platform_fn *fn, void *arg);
/* Behind the pools: what they were asked is not answered any more. */
void platform_free(struct gateway *g);

#endif
