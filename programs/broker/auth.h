/* Who a peer is: by its uid on ipc, by its CURVE key on tcp, which is a tenant's, or a run's on a node of the cluster. Nothing that
 * it writes in its messages counts, but for the operator and the gateway, who say for which tenant they act. */
#ifndef SIMBDP_BROKER_AUTH_H
#define SIMBDP_BROKER_AUTH_H

#include "broker.h"

/* Asks the keeper for the ledger's tenants anew: their uids, and who is suspended. Where it cannot tell, all stays as it was. */
void auth_read_tenants(struct broker *b);
struct broker_tenant *auth_tenant(struct broker *b, const char *id); /* makes it */
void auth_forget_tenants(struct broker *b);                          /* the broker ends */

/* For zmtp_ops: how many connections a uid may have (0 for strangers); and who has a CURVE key. */
int auth_may_connect(void *broker, int64_t uid);
const char *auth_user_of_key(void *broker, const unsigned char key[CURVE_KEY], int *ret_max);
/* Cuts off who has the key of a run that is over; now some of them, with the next ticks the others. */
void auth_look_at_runs(struct broker *b);
/* Sets who the session's peer is, as far as that is known by now. */
void auth_identify(struct broker *b, struct session *s);

#endif
