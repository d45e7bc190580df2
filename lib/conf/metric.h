/* The figures of a stream app: what the monitor's board shows, `mysimbdp top` sorts by, and alerts compare. */
#ifndef SIMBDP_CONF_METRIC_H
#define SIMBDP_CONF_METRIC_H

#include <stdbool.h>
#include <stddef.h>

/* name, whether it is text, what it is */
#define METRICS(X)                                                                                                                 \
    X(tenant_id, true, "the tenant")                                                                                               \
    X(app, true, "its stream app")                                                                                                 \
    X(stream, true, "the stream that it consumes; empty: none of ours")                                                            \
    X(state, true, "OK, WARN, STALLED or STOPPED")                                                                                 \
    X(in_per_s, false, "messages that came into its stream, a second")                                                             \
    X(acked_per_s, false, "messages that it settled, a second")                                                                    \
    X(ready, false, "messages that wait")                                                                                          \
    X(leased, false, "messages that its instances hold")                                                                           \
    X(oldest_age_s, false, "age of the oldest message that is not settled, s")                                                     \
    X(drain_s, false, "until nothing waits any more, as it goes now, s; unknown: it does not go down")                             \
    X(instances, false, "instances that run")                                                                                      \
    X(desired, false, "instances that should")                                                                                     \
    X(avg_ms, false, "time that a message takes an instance, on average over the last minute, ms")                                 \
    X(p99_ms, false, "and of the slowest of a hundred, ms")                                                                        \
    X(errors, false, "errors that instances reported in the last minute")                                                          \
    X(reporting, false, "instances that report")                                                                                   \
    X(silent, false, "instances that run, reported, and do not any more")                                                          \
    X(report_age_s, false, "since the last report of any of them, s")                                                              \
    X(restarts, false, "instances that ended by themselves")                                                                       \
    X(dead, false, "dead letters")

enum metric {
#define X(name, is_text, help) METRIC_##name,
    METRICS(X)
#undef X
        N_METRICS
};

struct metric_row {
    const char *text[N_METRICS]; /* values of figures that are text; NULL: unknown */
    double number[N_METRICS];    /* values of the others; NaN: unknown */
};

const char *metric_name(enum metric m);
bool metric_is_text(enum metric m);
const char *metric_help(enum metric m);
/* The figure of that name; -1: there is none. */
int metric_find(const char *name, size_t n);

/* Of which figures the last minutes are kept (base/trend.h): of a stream app, and of a tenant's files alike, whose backlog are
 * those that are unfinished, and whose instances are runs. */
enum metric_trend {
    METRIC_TREND_in_per_s,
    METRIC_TREND_acked_per_s,
    METRIC_TREND_backlog,
    METRIC_TREND_instances,
    METRIC_N_TRENDS
};
const char *metric_trend_name(enum metric_trend c);

#endif
