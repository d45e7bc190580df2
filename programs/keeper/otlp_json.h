/* Parts of OTLP's JSON (opentelemetry.io/docs/specs/otlp, JSON Protobuf Encoding): 64 bits are texts, ids hex digits. */
#ifndef SIMBDP_KEEPER_OTLP_JSON_H
#define SIMBDP_KEEPER_OTLP_JSON_H

#include "base/buf.h"
#include "base/json.h"

#include <stdint.h>

/* An attribute; nothing where value is NULL, or the number negative. */
void otlp_str(struct buf *out, const char *key, const char *value);
void otlp_int(struct buf *out, const char *key, int64_t value);
void otlp_nanos(struct buf *out, const char *key, int64_t wall_ms);
/* A field of 64 bits. */
void otlp_u64(struct buf *out, const char *key, uint64_t value);

#endif
