/* Which tenant each uid is of, as the wardens of a home remember it: state/warden/uids-<base>, a line "UID TENANT" each, written by
 * wardens only. The ledger is the managers', so its word counts for a uid that nobody has had, and not after that. */
#ifndef SIMBDP_WARDEN_UID_OWNERS_H
#define SIMBDP_WARDEN_UID_OWNERS_H

#include "host/home.h"
#include "host/uid_block.h"

struct tenant_uids;

int tenant_uids_open(const struct home *h, const struct uid_block *block, struct tenant_uids **ret, struct err *e);
void tenant_uids_free(struct tenant_uids *p); /* NULL is fine */

/* 0: the uid is the tenant's, from now on at the latest. Else why not. A few system calls, and none for a uid that is known. */
int tenant_uids_check(struct tenant_uids *p, int64_t uid, const char *tenant, struct err *e);

#endif
