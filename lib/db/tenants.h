/* What programs other than batchmgr need to know of tenants: the uid that batchmgr gave each, and who is suspended. It is kept in
 * the ledger (state/ledger.db, table tenants), which only batchmgr writes. */
#ifndef SIMBDP_DB_TENANTS_H
#define SIMBDP_DB_TENANTS_H

#include "base/err.h"
#include "host/home.h"

#include <stddef.h>
#include <stdint.h>

/* The bits of tenants.suspended; any of them: nothing is taken in or started. */
enum {
    TENANT_SUSPENDED = 1, /* by command */
    TENANT_HELD = 2,      /* on its way from or to another home: nothing of it changes */
    TENANT_MOVED = 4,     /* another home has it for good */
    TENANT_SHARED = 8,    /* its documents are where they were, for both homes: none of them may delete them for the other */
};

struct tenant_state {
    char *id;
    int64_t uid;
    bool suspended; /* or is being purged */
    bool removed;   /* purged; its uid is never given again */
    bool held;      /* on its way from or to another home, or moved */
    bool moved;     /* another home has it */
};

/* Reads all tenants; *ret_n is 0 where batchmgr never ran. Free with tenant_states_free. Blocks. */
int tenant_states(const struct home *h, struct tenant_state **ret, size_t *ret_n, struct err *e);
void tenant_states_free(struct tenant_state *v, size_t n);

#endif
