/* What strangers and other programs send for traces and figures: traceparent and tracestate (first line, the rest), and text of
 * /metrics. */
#include "base/json.h"
#include "base/mem.h"
#include "base/trace_context.h"
#include "host/trace_ids.h"
#include "programs/keeper/otlp_metrics.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_metric(void *arg, const char *json, int64_t n_points)
{
    AUTO_BSON bson_t *doc = json_parse(json, strlen(json), NULL);
    (void)arg;
    assert(doc && n_points > 0);
}

static void look_at_trace(const char *text)
{
    AUTO_FREE char *parent = xstrndup(text, strcspn(text, "\n"));
    const char *state = text[strlen(parent)] ? text + strlen(parent) + 1 : NULL;
    AUTO_FREE char *kept = trace_keep(parent, state), *again = trace_keep_again(kept), *any = trace_keep_again(text);
    struct trace_context c;
    char text_again[TRACE_STATE_BYTES + 1];
    assert(!kept == !again && (!kept || !strcmp(kept, again)));
    trace_state_read(state, text_again);
    assert(strlen(text_again) <= TRACE_STATE_BYTES);
    trace_of(kept, "file", &c);
    assert(strlen(c.trace) == TRACE_ID_SIZE - 1 && strlen(c.span) == TRACE_SPAN_SIZE - 1);
    trace_of(text, "file", &c); /* what was kept by somebody who lied */
    assert(strlen(c.trace) == TRACE_ID_SIZE - 1 && (!any || strlen(any) < TRACE_KEPT_SIZE));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = xstrndup((const char *)data, size);
    struct otlp_metrics *m = otlp_metrics_new();
    look_at_trace(text);
    otlp_metrics_write(m, (const char *)data, size, 1700000000000, on_metric, NULL);
    otlp_metrics_write(m, (const char *)data, size, 1700000001000, on_metric, NULL);
    otlp_metrics_free(m);
    return 0;
}
