/* Writes apps/, keys/ and conf/ for batchmgr, which may not: what lies there decides what is run, and with which secrets. */
#ifndef SIMBDP_WARDEN_HOME_WRITES_H
#define SIMBDP_WARDEN_HOME_WRITES_H

#include "conf/conf.h"
#include "host/home.h"

/* keys/mongo/users, where the home's MongoDB is the embedded one. */
void home_writes_users(const struct home *h, const struct conf *c);

/* apps/<tenant> is there, and of the tenant's group alone from when it is made, or if it is open to all, as earlier
 * versions made it. Other modes are the provider's choice (a group that deploys, say) and stay. gid -1: the platform's. */
void home_writes_apps(const struct home *h, const char *tenant, int64_t gid);

/* Removes what the tenant has there; `conf` or all else. Only where the provider wrote that he wants it (`mysimbdp tenant remove
 * --purge`: home_purge_mark). In a process of its own: there may be much. */
int home_writes_forget(const struct home *h, const char *tenant, bool conf, struct err *e);

#endif
