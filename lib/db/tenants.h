/* What programs other than batchmgr need to know of tenants: the uid that batchmgr gave each, and who is suspended. It is kept in
 * the ledger (state/ledger.db, table tenants), which only batchmgr writes. */
#ifndef SIMBDP_DB_TENANTS_H
#define SIMBDP_DB_TENANTS_H

#include "base/err.h"
#include "host/home.h"

#include <stddef.h>
#include <stdint.h>

struct tenant_state {
    char *id;
    int64_t uid;
    bool suspended; /* or is being purged */
    bool removed;   /* purged; its uid is never given again */
};

/* Reads all tenants; *ret_n is 0 where batchmgr never ran. Free with tenant_states_free. Blocks. */
int tenant_states(const struct home *h, struct tenant_state **ret, size_t *ret_n, struct err *e);
void tenant_states_free(struct tenant_state *v, size_t n);

#endif
