/* What batchmgr knows of the tenants: uids and who is suspended from the ledger, databases from state/databases.json. */
#ifndef SIMBDP_STREAMMGR_TENANT_FACTS_H
#define SIMBDP_STREAMMGR_TENANT_FACTS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct streammgr;

struct tenant_facts {
    char *tenant;
    int64_t uid; /* its instances' uid and gid; -1: the platform's */
    bool suspended, database_up;
    bool removed;          /* for good */
    bool held, moved;      /* on its way from or to another home, or there; another one has it */
    bool database_looking; /* nobody has looked at it since batchmgr's start */
    char *mongo_url;
    char *database_why; /* why it may not be used although it answers; or NULL */
};

/* Reads all anew; on failure what was known stays, but for databases. What tenant_facts_of gave before is freed. */
int tenant_facts_read(struct streammgr *m, struct err *e);
/* The same where batchmgr has said anything of databases since; 0 also where it has not, or never did. After a failure the next
 * look reads again. */
int tenant_facts_look(struct streammgr *m, struct err *e);
const struct tenant_facts *tenant_facts_of(const struct streammgr *m, const char *tenant); /* NULL: batchmgr does not know it yet */
void tenant_facts_free(struct streammgr *m);

#endif
