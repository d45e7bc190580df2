/* What a batchmgr before this one left unfinished is taken up where it was. */
#ifndef SIMBDP_BATCHMGR_RECOVER_H
#define SIMBDP_BATCHMGR_RECOVER_H

#include "base/err.h"

struct batchmgr;

/* Reads the ledger's unfinished files and hands each to the module whose step it was in. Once, after all modules started. Blocks.
 */
int recover_run(struct batchmgr *m, struct err *e);

/* The same of one tenant, which was held and is not any more (moving.h). */
int recover_tenant(struct batchmgr *m, const char *tenant, struct err *e);

#endif
