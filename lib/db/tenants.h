/* What programs other than batchmgr need to know of the tenants' lives: the uid that batchmgr gave each, and who is suspended. Kept
 * in the ledger (state/ledger.db, table tenants), which batchmgr alone writes. */
#ifndef SIMBDP_DB_TENANTS_H
#define SIMBDP_DB_TENANTS_H

#include "base/err.h"
#include "host/home.h"

#include <stddef.h>
#include <stdint.h>

struct tenant_state {
    char *id;
    int64_t uid;
    bool suspended; /* or being removed */
    bool removed;   /* for good; its uid is not given again */
};

/* Reads all; *ret_n 0 where batchmgr never ran. Free with tenant_states_free. Blocks. */
int tenant_states(const struct home *h, struct tenant_state **ret, size_t *ret_n, struct err *e);
void tenant_states_free(struct tenant_state *v, size_t n);

#endif
