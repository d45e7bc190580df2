/* A page of the audit log, for the gateway's operator. */
#ifndef SIMBDP_KEEPER_AUDIT_PAGE_H
#define SIMBDP_KEEPER_AUDIT_PAGE_H

#include "query/query.h"

/* params: who, what (records that have this in it), tenant (that are about it), limit (1..1000, 100), cursor (of an earlier answer)
 *   -> {"records":[{"seq","ts","who","from","what","tenant_id","subject","outcome"}, newest first],"next":CURSOR|null,
 *       "skipped": lines that are no records}
 * About AUDIT_PAGE_BYTES of the log are read: a page may have fewer than `limit`, and none at all, and still a `next`. 400
 * `parameter`, 503 `unavailable`. Blocks for the disk. */
enum { AUDIT_PAGE_BYTES = 4 << 20 };
void audit_page(int dirfd, const bson_t *params, struct query_answer *ret);

#endif
