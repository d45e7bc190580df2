/* Which request is answered by what. The table is docs/openapi.yaml's twin; a test compares both. */
#ifndef SIMBDP_GATEWAY_ROUTES_H
#define SIMBDP_GATEWAY_ROUTES_H

#include <stdbool.h>
#include <stdio.h>

struct request;

/* Sets rq->route and what its pattern names; false: it was answered (404, 405, 204 to OPTIONS). */
bool routes_find(struct request *rq);
/* Whether the account may do that there; false: it was answered. What an account may not see is not there (404); what it sees and
 * may not change is forbidden (403). */
bool routes_let_in(struct request *rq);
/* For `gateway --routes`: a line each, method and pattern. */
void routes_print(FILE *to);

#endif
