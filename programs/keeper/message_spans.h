/* Spans of messages, from the lines that the broker wrote (programs/broker/spans.h): `publish`, and `process` with its links. */
#ifndef SIMBDP_KEEPER_MESSAGE_SPANS_H
#define SIMBDP_KEEPER_MESSAGE_SPANS_H

#include "spans.h"

/* The line's event is "span". Nothing where it is none. */
void message_span_of_line(const bson_t *line, int64_t ts_ms, spans_fn *fn, void *arg);

#endif
