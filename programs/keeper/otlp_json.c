#include "otlp_json.h"

#include <inttypes.h>
#include <stdio.h>

static void add_attribute(struct buf *out, const char *key, const char *type, const char *value)
{
    json_begin(out, NULL, '{');
    json_str(out, "key", key);
    json_begin(out, "value", '{');
    json_str(out, type, value);
    json_end(out, '}');
    json_end(out, '}');
}

void otlp_str(struct buf *out, const char *key, const char *value)
{
    if (value)
        add_attribute(out, key, "stringValue", value);
}

void otlp_int(struct buf *out, const char *key, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    if (value >= 0)
        add_attribute(out, key, "intValue", text);
}

void otlp_nanos(struct buf *out, const char *key, int64_t wall_ms)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64 "000000", wall_ms > 0 ? wall_ms : 0);
    json_str(out, key, wall_ms > 0 ? text : "0");
}

void otlp_u64(struct buf *out, const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    json_str(out, key, text);
}
