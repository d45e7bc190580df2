/* Requests to the platform's programs on behalf of an account, and what they answer to it. */
#ifndef SIMBDP_GATEWAY_ORDERS_H
#define SIMBDP_GATEWAY_ORDERS_H

#include "base/json.h"
#include "gateway.h"

struct request;

/* Answers with a program's error: its `code`, `error` and `retry_after_s`; doc NULL: it is not there. */
void orders_refuse(struct request *rq, const bson_t *doc);
/* Adds to the audit log what an account changed. outcome: "ok", or a code. Does not wait: the log follows soon. */
void orders_audit(const struct request *rq, const char *what, const char *subject, const char *outcome);

#endif
