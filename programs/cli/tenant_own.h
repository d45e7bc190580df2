/* `mysimbdp tenant configure`: what a tenant configures itself (lib/conf/own.h). */
#ifndef SIMBDP_CLI_TENANT_OWN_H
#define SIMBDP_CLI_TENANT_OWN_H

#include "cli.h"

/* Takes FILE (who: asks) as the tenant's own configuration, all or nothing, and has the programs reload. if_match: the SHA-256
 * (hex) that the present one has to have, "" for one that is not there; NULL: any. With --json the answer is {"ok":true,"sha256"}
 * or
 * {"ok":false,"code","error"}. */
int tenant_configure(struct cli *c, const struct home *h, const char *who, const char *id, const char *file, const char *if_match);

#endif
