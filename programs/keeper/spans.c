#include "spans.h"
#include "message_spans.h"
#include "otlp_json.h"

#include "base/clk.h"
#include "base/json.h"
#include "base/mem.h"
#include "host/tenant_events.h"
#include "host/trace_ids.h"

#include <string.h>

struct spans {
    spans_fn *fn;
    void *arg;
};

struct span {
    const char *name, *of; /* of: a file, or a run of several */
    const char *step_id;   /* NULL: it is the whole's own */
    int64_t from_ms, to_ms;
    const char *failed, *error_type; /* NULL: it did not */
    const char *link;                /* a run of several that it had a part in; NULL: none */
};

/* Fields of a line, and what they are called in a span. Where OpenTelemetry's semantic conventions (1.27) have a name, it is that.
 */
static const struct {
    const char *key, *name;
} texts[] = {{"tenant_id", "tenant_id"}, {"dataset", "dataset"}, {"file_id", "file_id"},
             {"file_name", "file.name"}, {"app", "app"},         {"run_id", "run_id"},
             {"step", "step"},           {"state", "state"},     {"reason", "reason"},
             {"outcome", "outcome"},     {"limit", "limit"}},
  counts[] = {{"size_bytes", "file.size"},        {"rows", "rows"},       {"rows_loaded", "rows_loaded"},
              {"rows_rejected", "rows_rejected"}, {"attempt", "attempt"}, {"n_files", "n_files"},
              {"exit_code", "process.exit.code"}};

static void add_attributes(struct buf *b, const struct span *s, const bson_t *line)
{
    json_begin(b, "attributes", '[');
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        otlp_str(b, texts[i].name, json_get_str(line, texts[i].key, NULL));

    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        otlp_int(b, counts[i].name, json_get_i64(line, counts[i].key, -1));
    if (s->failed)
        otlp_str(b, "error.type", s->error_type ? s->error_type : "_OTHER");
    json_end(b, ']');
}

static void add_link(struct buf *b, const char *run_id)
{
    struct trace_context to;
    trace_of(NULL, run_id, &to);
    json_begin(b, "links", '[');
    json_begin(b, NULL, '{');
    json_str(b, "traceId", to.trace);
    json_str(b, "spanId", to.span);
    json_end(b, '}');
    json_end(b, ']');
}

/* Whose it is below: of the whole, whoever sent it; of a step, the whole. */
static void add_ids(struct buf *b, const struct span *s, const char *kept, const struct trace_context *whole)
{
    struct trace_context own, sender;
    AUTO_FREE char *parent = kept ? xstrndup(kept, strcspn(kept, " ")) : NULL;
    if (s->step_id)
        trace_of_step(kept, s->of, s->name, s->step_id, &own);
    json_str(b, "traceId", whole->trace);
    json_str(b, "spanId", s->step_id ? own.span : whole->span);
    if (*trace_kept_state(kept))
        json_str(b, "traceState", trace_kept_state(kept));
    if (s->step_id)
        json_str(b, "parentSpanId", whole->span);
    else if (trace_parent_read(parent, &sender) == 0)
        json_str(b, "parentSpanId", sender.span);
}

static void tell(struct spans *t, const struct span *s, const bson_t *line)
{
    AUTO_BUF struct buf b = {0};
    struct trace_context whole;
    bool several = json_get_i64(line, "n_files", 1) > 1 && !strcmp(s->of, json_get_str(line, "run_id", ""));
    const char *kept = several ? NULL : json_get_str(line, "trace", NULL);
    trace_of(kept, s->of, &whole);
    if (!whole.sampled) /* its sender does not record it, nor does whoever is asked by us */
        return;
    json_begin(&b, NULL, '{');
    add_ids(&b, s, kept, &whole);
    json_str(&b, "name", s->name);
    json_i64(&b, "kind", 1); /* internal */
    otlp_nanos(&b, "startTimeUnixNano", s->from_ms < s->to_ms ? s->from_ms : s->to_ms);
    otlp_nanos(&b, "endTimeUnixNano", s->to_ms);
    add_attributes(&b, s, line);
    if (s->link)
        add_link(&b, s->link);
    json_begin(&b, "status", '{');
    json_i64(&b, "code", s->failed ? 2 : 1);
    if (s->failed)
        json_str(&b, "message", s->failed);
    json_end(&b, '}');
    json_end(&b, '}');
    t->fn(t->arg, b.p);
}

/* ---- lines ---- */

/* The time in that field; or_ms: there is none. */
static int64_t time_of(const bson_t *line, const char *key, int64_t or_ms)
{
    int64_t ms = or_ms;
    clk_parse(json_get_str(line, key, ""), &ms);
    return ms;
}

/* Of a run of several files the trace is its own, below `group`. Where the loading followed the app's step, both are told. */
static void see_run(struct spans *t, const bson_t *line, int64_t ts_ms)
{
    const char *run_id = json_get_str(line, "run_id", ""), *step = json_get_str(line, "step", "app");
    const char *outcome = json_get_str(line, "outcome", "");
    bool several = json_get_i64(line, "n_files", 1) > 1, well = !strcmp(outcome, "ok");
    double wall_s = json_get_f64(line, "wall_s", 0); /* before `started_at` was told */
    int64_t from_ms = time_of(line, "started_at", ts_ms - (int64_t)((wall_s > 0 && wall_s < 1e9 ? wall_s : 0) * 1000));
    int64_t load_ms = time_of(line, "load_at", 0);
    struct span s = {.name = !strcmp(step, "app") ? "run" : step,
                     .of = several ? run_id : json_get_str(line, "file_id", run_id),
                     .step_id = run_id,
                     .from_ms = load_ms ? load_ms : from_ms,
                     .to_ms = ts_ms,
                     .failed = well ? NULL : json_get_str(line, "error", outcome),
                     .error_type = outcome};
    struct span app = {.name = "run", .of = s.of, .step_id = run_id, .from_ms = from_ms, .to_ms = load_ms};
    struct span group = s;
    group.name = "group";
    group.step_id = NULL;
    group.from_ms = from_ms;
    if (load_ms)
        tell(t, &app, line);
    tell(t, &s, line);
    if (several)
        tell(t, &group, line);
}

static void see_verdict(struct spans *t, const char *file_id, const bson_t *line, int64_t ts_ms)
{
    const char *state = json_get_str(line, "state", "");
    bool well = !strcmp(state, "ingested") || !strcmp(state, "duplicate");
    tell(t,
         &(struct span){.name = "file",
                        .of = file_id,
                        .from_ms = time_of(line, "received_at", ts_ms),
                        .to_ms = ts_ms,
                        .failed = well ? NULL : json_get_str(line, "detail", state),
                        .error_type = json_get_str(line, "reason", state),
                        .link = json_get_i64(line, "n_files", 1) > 1 ? json_get_str(line, "run_id", NULL) : NULL},
         line);
}

/* The life of an instance of a stream app: a trace of its own, which its app knows (TRACEPARENT). */
static void see_instance(struct spans *t, const bson_t *line, int64_t ts_ms)
{
    const char *outcome = json_get_str(line, "outcome", "");
    double wall_s = json_get_f64(line, "wall_s", 0);
    bool well = !strcmp(outcome, "ok");
    tell(t,
         &(struct span){.name = "instance",
                        .of = json_get_str(line, "run_id", ""),
                        .from_ms = ts_ms - (int64_t)((wall_s > 0 && wall_s < 1e9 ? wall_s : 0) * 1000),
                        .to_ms = ts_ms,
                        .failed = well ? NULL : json_get_str(line, "error", outcome),
                        .error_type = outcome},
         line);
}

void spans_of_line(const bson_t *line, int64_t ts_ms, spans_fn *fn, void *arg)
{
    struct spans t = {fn, arg};
    const char *file_id = json_get_str(line, "file_id", "");
    int e = tenant_event_of_line(EVENTS_OF_batch, json_get_str(line, "event", ""));
    struct span s = {.of = file_id, .step_id = json_get_str(line, "ts", ""), .to_ms = ts_ms};
    if (e == EVENT_run_ended)
        see_run(&t, line, ts_ms);
    else if (e == EVENT_instance_ended)
        see_instance(&t, line, ts_ms);
    else if (!strcmp(json_get_str(line, "event", ""), "span"))
        message_span_of_line(line, ts_ms, fn, arg);
    else if (e == EVENT_file_verdict)
        see_verdict(&t, file_id, line, ts_ms);
    else if (e == EVENT_file_inspected && (s.from_ms = time_of(line, "received_at", 0)))
        s.name = "inspect";
    else if (e == EVENT_file_running && (s.from_ms = time_of(line, "queued_at", 0)))
        s.name = "queue";
    if (s.name)
        tell(&t, &s, line);
}
