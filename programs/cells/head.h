/* The head of a request or of an answer (RFC 9112), taken apart strictly: what could be read in two ways is refused, so that the
 * front and a cell behind it never differ about where a message ends (request smuggling, 11.2) or whom it is for. Pure. */
#ifndef SIMBDP_CELLS_HEAD_H
#define SIMBDP_CELLS_HEAD_H

#include "body.h"

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

enum { HEAD_MAX = 16384, HEAD_FIELDS = 100, HEAD_METHOD_MAX = 16, HEAD_TARGET_MAX = 8192 };

struct span {
    const char *p;
    size_t n;
};
bool span_is(struct span s, const char *text); /* without regard to case, as names of fields are compared */

struct head {
    struct span method, target; /* of a request */
    int status;                 /* of an answer */
    struct {
        struct span name, value;
    } fields[HEAD_FIELDS];
    size_t n_fields;
    struct body body;
    bool closes;  /* whoever sent it ends the connection after this message */
    bool expects; /* a request: its body comes after a 100 */
};

/* How long the head at p is, with the empty line behind it; 0: it has not come whole. */
size_t head_end(const char *p, size_t n);

struct head_problem {
    int status;
    const char *code, *detail; /* as the gateway has them (docs/openapi.yaml) */
};
/* What is in it points into p. False, and what is to be answered. */
bool head_parse_request(const char *p, size_t n, struct head *ret, struct head_problem *why);
/* is_head: the answer to a HEAD, which has no body. False: it is no answer. */
bool head_parse_answer(const char *p, size_t n, bool is_head, struct head *ret);

/* The value of a field that may be there once at most; n 0 and p NULL: it is not. */
struct span head_field(const struct head *h, const char *name);

/* The head as it is passed on: without what is between two neighbours (Connection and its like), and without what is ours to say
 * (X-Forwarded-For). `address`: the client's. */
void head_write_request(const struct head *h, const char *address, struct buf *out);
/* closes: this connection ends after the answer. */
void head_write_answer(const struct head *h, const char *reason, bool closes, struct buf *out);

#endif
