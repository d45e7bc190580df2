/* Usage figures that outlive a purged tenant, for its bill: those of `mysimbdp stats`, by UTC day and name, in the ledger's table
 * `bills` (the instances' database has one of its own). Files and runs are added as they are deleted (ledger_purge). */
#ifndef SIMBDP_BATCHMGR_BILL_H
#define SIMBDP_BATCHMGR_BILL_H

#include "base/err.h"
#include "host/home.h"

/* What the journal of its streams says, once for each such journal however often it is called. Blocks. */
int bill_streams(const struct home *h, const char *tenant, struct err *e);

#endif
