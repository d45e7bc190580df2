#include "message_spans.h"
#include "otlp_json.h"

#include "base/clk.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/trace_context.h"

#include <string.h>

enum { KIND_PRODUCER = 4, KIND_CONSUMER = 5 };

static void add_links(struct buf *b, const bson_t *line)
{
    bson_iter_t it;
    struct trace_context to;
    json_begin(b, "links", '[');
    for (bool any = json_get_iter(line, "links", &it); any && bson_iter_next(&it);)
        if (BSON_ITER_HOLDS_UTF8(&it) && trace_parent_read(bson_iter_utf8(&it, NULL), &to) == 0) {
            json_begin(b, NULL, '{');
            json_str(b, "traceId", to.trace);
            json_str(b, "spanId", to.span);
            json_end(b, '}');
        }
    json_end(b, ']');
}

/* Names are those of OpenTelemetry's semantic conventions for messaging (1.27) where these have any. */
static void add_attributes(struct buf *b, const bson_t *line, const char *name, const char *error)
{
    const char *app = json_get_str(line, "app", NULL);
    json_begin(b, "attributes", '[');
    otlp_str(b, "messaging.system", "mysimbdp");
    otlp_str(b, "messaging.operation.name", name);
    otlp_str(b, "messaging.operation.type", name);
    otlp_str(b, "messaging.destination.name", json_get_str(line, "stream", ""));
    otlp_str(b, "messaging.consumer.group.name", app);
    otlp_int(b, "messaging.batch.message_count", json_get_i64(line, "messages", -1));
    otlp_str(b, "tenant_id", json_get_str(line, "tenant_id", ""));
    otlp_str(b, "stream", json_get_str(line, "stream", ""));
    otlp_str(b, "app", app);
    otlp_int(b, "bytes", json_get_i64(line, "bytes", -1));
    otlp_int(b, "rows", json_get_i64(line, "rows", -1));
    if (error)
        otlp_str(b, "error.type", "_OTHER");
    json_end(b, ']');
}

void message_span_of_line(const bson_t *line, int64_t ts_ms, spans_fn *fn, void *arg)
{
    struct trace_context own, parent;
    AUTO_BUF struct buf b = {0};
    const char *name = json_get_str(line, "name", ""), *error = json_get_str(line, "error", NULL);
    bool publish = !strcmp(name, "publish");
    int64_t from_ms = ts_ms;
    if (trace_parent_read(json_get_str(line, "own", NULL), &own) < 0 || (!publish && strcmp(name, "process") != 0))
        return;
    clk_parse(json_get_str(line, "from", ""), &from_ms);
    AUTO_FREE char *title = xasprintf("%s %s", name, json_get_str(line, "stream", ""));
    json_begin(&b, NULL, '{');
    json_str(&b, "traceId", own.trace);
    json_str(&b, "spanId", own.span);
    if (trace_parent_read(json_get_str(line, "parent", NULL), &parent) == 0)
        json_str(&b, "parentSpanId", parent.span);
    json_str(&b, "name", title);
    json_i64(&b, "kind", publish ? KIND_PRODUCER : KIND_CONSUMER);
    otlp_nanos(&b, "startTimeUnixNano", from_ms < ts_ms ? from_ms : ts_ms);
    otlp_nanos(&b, "endTimeUnixNano", ts_ms);
    add_attributes(&b, line, name, error);
    add_links(&b, line);
    json_begin(&b, "status", '{');
    json_i64(&b, "code", error ? 2 : 1);
    if (error)
        json_str(&b, "message", error);
    json_end(&b, '}');
    json_end(&b, '}');
    fn(arg, b.p);
}
