/* mysimbdp tenant suspend, resume: by who types it, and by the keeper that does it for an operator of the gateway's
 * (programs/keeper/store.h). */
#ifndef SIMBDP_CLI_TENANT_SUSPEND_H
#define SIMBDP_CLI_TENANT_SUSPEND_H

#include "cli.h"

struct tenant_order {
    const char *verb; /* "suspend" or "resume" */
    const char *tenant;
    const char *who, *from; /* for the audit log: account or unix user; address or "local" */
};

/* Both hold already, or come to hold: it may be repeated. CLI_DONE; or CLI_FAILED after a complaint. With --json either is said by
 * an object: {ok,tenant_id,state}, {ok:false,code,error}. Blocks while `up` starts what has to be told, ten seconds for each. */
int tenant_suspend(struct cli *c, const struct home *h, const struct tenant_order *o);

#endif
