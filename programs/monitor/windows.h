/* What the instances of an app did lately, by their reports: sums a second, and how long messages took. Counters that instances
 * send are since their begin, so a lost report costs nothing; one that is missing is never taken for zero. No loop, no clock. */
#ifndef SIMBDP_MONITOR_WINDOWS_H
#define SIMBDP_MONITOR_WINDOWS_H

#include "report.h"

#include "base/hist.h"
#include "base/map.h"

#include <stdbool.h>

enum { WINDOW_SLICES = 64, WINDOW_HISTS = 7, WINDOW_HIST_S = 10, WINDOW_RATE_S = 10, WINDOW_LONG_S = 60 };

/* One that reports. */
struct reporting {
    char *id, *boot, *error; /* boot, error: NULL: none said */
    int64_t seq, seen_ms, interval_ms;
    bool counts; /* it sends counters; the last ones: */
    double messages, bytes, errors, busy_s;
    uint32_t *buckets;
};

struct windows {
    struct map instances; /* struct reporting, by id */
    int64_t first_ms;     /* of the first report; 0: none came yet */
    int64_t seen_ms;      /* of the last */
    struct {
        int64_t second;
        double messages, bytes, errors, busy_s;
    } slices[WINDOW_SLICES];
    struct {
        int64_t tens; /* of seconds */
        struct hist h;
    } * hists;                    /* WINDOW_HISTS of them, or NULL */
    char error[REPORT_MAX_ERROR]; /* the last one; empty: none */
    int64_t error_ms;
};

void windows_fini(struct windows *w);

/* Takes a report of the instance `id`. now_ms is monotonic, wall_ms calendar time. ERR_FORMAT: refused, and nothing changed. */
int windows_take(struct windows *w, const struct report *r, const char *id, size_t max_instances, int64_t now_ms, int64_t wall_ms,
                 enum report_refusal *ret_why, struct err *e);

/* alive: 1 it runs, 0 it does not, -1 nobody knows. Forgets those that do not run, and, where nobody knows, those of which nothing
 * was heard for a minute. Returns how many are silent: they run, and do not report any more; *ret_name: one of them, or NULL. */
size_t windows_expire(struct windows *w, int64_t now_ms, int (*alive)(const char *id, void *arg), void *arg, const char **ret_name);

struct windows_figures {
    double messages_per_s, bytes_per_s, acks_per_busy_s; /* over the last 10 s; NaN: unknown */
    double avg_s, p99_s, errors;                         /* over the last minute; NaN: unknown */
    double report_age_s;                                 /* of the last report; NaN: none came */
    size_t reporting;                                    /* instances that were heard of lately */
};
void windows_figures(const struct windows *w, int64_t now_ms, struct windows_figures *ret);

#endif
