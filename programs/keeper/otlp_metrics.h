/* Figures as OTLP has them, of the text that Prometheus is given (figures.h, base/prom.h: OpenMetrics): gauges, counters as
 * monotonic sums, histograms, with exemplars; both cumulative. What a counter or histogram began with is not known, so it counts
 * from when it was seen first, or from when it was seen last before it went down
 * (opentelemetry.io/docs/specs/otel/metrics/data-model, Cumulative streams: handling unknown start time). No I/O. */
#ifndef SIMBDP_KEEPER_OTLP_METRICS_H
#define SIMBDP_KEEPER_OTLP_METRICS_H

#include <stddef.h>
#include <stdint.h>

struct otlp_metrics;

struct otlp_metrics *otlp_metrics_new(void);
void otlp_metrics_free(struct otlp_metrics *m); /* NULL is fine */

/* Each metric, as a JSON object of OTLP with n_points data points; one with many comes in several. Lines that are none are passed
 * over: a part of the text may be a program's that was taken over. */
typedef void otlp_metrics_fn(void *arg, const char *json, int64_t n_points);
void otlp_metrics_write(struct otlp_metrics *m, const char *text, size_t n, int64_t wall_ms, otlp_metrics_fn *fn, void *arg);

#endif
