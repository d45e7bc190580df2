/* Whom a request is for: a tenant, by its path (/v1/tenants/T/...), by the host (T.DOMAIN) or by the field Simbdp-Tenant, which all
 * have to say the same. Pure. */
#ifndef SIMBDP_CELLS_ROUTE_H
#define SIMBDP_CELLS_ROUTE_H

#include "head.h"

struct route {
    enum { ROUTE_TENANT, ROUTE_HEALTHZ, ROUTE_READYZ, ROUTE_REFUSED } kind;
    struct span tenant; /* a valid name */
    struct head_problem why;
};

/* domain: "" where tenants have no hosts of their own; lower case. */
struct route route_of(const struct head *h, const char *domain);

#endif
