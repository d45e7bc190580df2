/* The spans of a file's trace, from the events of its tenant's batch journal (host/tenant_events.h): one for the file from receipt
 * to verdict, and below it `inspect`, `queue` and one for each step of a run. An instance's life is a trace of its own, and the
 * broker tells the spans of messages (message_spans.h). docs/metrics.md tells which there are and what is in them. An event has all
 * that its spans need; nothing is remembered. */
#ifndef SIMBDP_KEEPER_SPANS_H
#define SIMBDP_KEEPER_SPANS_H

#include <bson/bson.h>
#include <stdint.h>

/* Each span that the event ends, as a JSON object of OTLP. None where its trace's sender does not record it. */
typedef void spans_fn(void *arg, const char *json);
void spans_of_line(const bson_t *line, int64_t ts_ms, spans_fn *fn, void *arg);

#endif
