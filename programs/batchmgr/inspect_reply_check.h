/* What inspectors say, held against what can be: decisions only, without a loop. */
#ifndef SIMBDP_BATCHMGR_INSPECT_REPLY_CHECK_H
#define SIMBDP_BATCHMGR_INSPECT_REPLY_CHECK_H

#include "manager/inspect_proto.h"

#include <stddef.h>

/* What an inspector says is checked as if a tenant had said it: counts, and texts, which are made fit for people. size: of the file
 * (-1: not known). A reply that cannot be becomes one that says so. */
void inspect_reply_check(struct inspect_reply *re, int64_t size);
/* The figures as the inspector wrote them, as members to be put into an object (caller frees); NULL when they are no JSON object.
 */
char *inspect_figures(const char *json, size_t n);
/* How long an inspector may look at a file of this size. max_inspect_s -1: what its bytes may take. */
int64_t inspect_limit_ms(const struct inspect_request *rq, int64_t max_inspect_s, int64_t size);

#endif
