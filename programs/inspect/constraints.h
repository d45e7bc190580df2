/* The constraints of an agreement that only show while a file is read: rows, columns, row length, damaged rows, decompressed bytes.
 * What can be told without its content is batchmgr's (programs/batchmgr/admit.h). Who breaks one finds it in the reply, as
 * INSPECT_REFUSED with the key's name. */
#ifndef SIMBDP_INSPECT_CONSTRAINTS_H
#define SIMBDP_INSPECT_CONSTRAINTS_H

#include "manager/inspect_proto.h"
#include "read/reader.h"

#include <stdbool.h>

/* False: after this record (all zero: the last one was read) the counts in the reply are more than is allowed. */
bool constraints_hold(const struct inspect_request *rq, struct inspect_reply *re, const struct record *rec);
/* False: too large a part of all rows is damaged. Only to be judged when all were read. */
bool constraints_reject_share(const struct inspect_request *rq, struct inspect_reply *re);
/* How many bytes may be read of the file, compressed or not. False: it already has more, as holes. */
bool constraints_expansion(int fd, const struct inspect_request *rq, struct inspect_reply *re, int64_t *ret_max);
/* It had more than these `max`; `what`: the reader's words for it. */
void constraints_refuse_bytes(const struct inspect_request *rq, struct inspect_reply *re, int64_t max, const char *what);

#endif
