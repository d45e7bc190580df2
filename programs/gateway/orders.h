/* Requests to the platform's programs on behalf of an account, and what they answer to it. */
#ifndef SIMBDP_GATEWAY_ORDERS_H
#define SIMBDP_GATEWAY_ORDERS_H

#include "base/json.h"
#include "gateway.h"

struct request;

/* What is asked of a program, and what becomes of its answer. */
struct order {
    enum gateway_peer peer;
    const char *what, *subject; /* for the audit log; what NULL: nothing is changed. Live as long as the request. */
    /* Writes the body from an answer that says ok, and returns the status. */
    unsigned (*answer)(struct request *rq, const bson_t *doc, struct buf *b);
};
/* For `answer`: all that the program said but for "ok". */
unsigned orders_pass_on(struct request *rq, const bson_t *doc, struct buf *b);
/* Begins the line that asks, with whose tenant it is about; more keys may follow. */
void orders_begin(const struct request *rq, const char *op, struct buf *b);
/* Ends the line, and sends it: less than 1 MiB, which a control socket takes. The request waits, or was answered: 503. */
void orders_ask(struct request *rq, const struct order *order, struct buf *b);

/* Answers with a program's error: its `code`, `error` and `retry_after_s`; doc NULL: it is not there. */
void orders_refuse(struct request *rq, const bson_t *doc);
/* Adds to the audit log what an account changed. outcome: "ok", or a code. Does not wait: the log follows soon. */
void orders_audit(const struct request *rq, const char *what, const char *subject, const char *outcome);

#endif
