/* W3C Trace Context (Recommendation of 23 November 2021, www.w3.org/TR/2021/REC-trace-context-1-20211123): the header fields
 * `traceparent` and `tracestate`, by which programs of several makers tell to which trace their work belongs. What is read may come
 * from strangers. No I/O.
 *
 * What is kept of both is one text: a traceparent of version 00, and behind a blank the tracestate, if there is one. */
#ifndef SIMBDP_BASE_TRACE_CONTEXT_H
#define SIMBDP_BASE_TRACE_CONTEXT_H

#include <stdbool.h>

enum {
    TRACE_ID_SIZE = 33,
    TRACE_SPAN_SIZE = 17,
    TRACE_PARENT_SIZE = 56,
    TRACE_STATE_BYTES = 512, /* as many as everybody has to hand on (3.3.1.5); the rest goes */
    TRACE_KEPT_SIZE = TRACE_PARENT_SIZE + TRACE_STATE_BYTES + 1,
    TRACE_PACKED_BYTES = 26, /* a traceparent's hex digits as bytes: version 00, trace, span, flags */
};

/* Hex digits in lower case, never all 0. */
struct trace_context {
    char trace[TRACE_ID_SIZE], span[TRACE_SPAN_SIZE];
    bool sampled;
};

/* 0, or -EINVAL: it is none, and is to be taken as if it had not come. A later version is read as far as 00 goes. NULL is none. */
int trace_parent_read(const char *text, struct trace_context *ret);
/* Of version 00. */
void trace_parent_write(const struct trace_context *c, char ret[TRACE_PARENT_SIZE]);

/* The same in TRACE_PACKED_BYTES. What cannot be read is taken as if it had not come: all zero. False: there is none. */
bool trace_parent_pack(const char *text, unsigned char ret[TRACE_PACKED_BYTES]);
/* Back, as text of version 00. False: there is none, or these bytes are none. */
bool trace_parent_unpack(const unsigned char *packed, char ret[TRACE_PARENT_SIZE]);

/* The list without blanks around its members; where it is longer than TRACE_STATE_BYTES, first those over 128 characters go, then
 * the last ones. "" where it is none. */
void trace_state_read(const char *text, char ret[TRACE_STATE_BYTES + 1]);

/* What is to be kept; the caller frees. NULL: `parent` is none. `state` may be NULL. */
char *trace_keep(const char *parent, const char *state);
/* The same of what was kept, by somebody who may not be believed. NULL: it is not. */
char *trace_keep_again(const char *kept);
/* The tracestate of what was kept; "": it has none. `kept` may be NULL. */
const char *trace_kept_state(const char *kept);

#endif
