/* Errors as clients see them: problem documents (RFC 9457) with a `code`, which is the ledger's reason where the ledger has one. */
#ifndef SIMBDP_GATEWAY_PROBLEM_H
#define SIMBDP_GATEWAY_PROBLEM_H

#include "base/buf.h"

/* The status of a code; 500 for one that is not known here, which is then to be added. */
unsigned problem_status(const char *code);
/* Writes the document. detail may be NULL. */
void problem_write(struct buf *out, const char *code, const char *detail, const char *request_id);

#endif
