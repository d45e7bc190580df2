/* One report of an app's instance, as it comes over the wire: JSON or BSON, docs/reports.md says what is in it. */
#ifndef SIMBDP_MONITOR_REPORT_H
#define SIMBDP_MONITOR_REPORT_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Why a report is not taken. */
#define REPORT_REFUSALS(X)                                                                                                         \
    X(malformed)      /* no JSON or BSON object, or a field of another type */                                                     \
    X(huge)           /* more bytes, buckets or digits than a report has */                                                        \
    X(negative)       /* a figure below zero */                                                                                    \
    X(not_a_number)   /* NaN or infinite */                                                                                        \
    X(stale)          /* measured too long ago, or older than one that was taken */                                                \
    X(future)         /* measured at a time that is still to come */                                                               \
    X(foreign)        /* of another tenant than the one that sent it, or of somebody unknown */                                    \
    X(unknown_app)    /* the tenant has no such app */                                                                             \
    X(rate)           /* more reports a second than the tenant's instances have */                                                 \
    X(many_instances) /* more instances than the agreement has */

enum report_refusal {
#define X(name) REPORT_##name,
    REPORT_REFUSALS(X)
#undef X
        REPORT_N_REFUSALS
};

const char *report_refusal_name(enum report_refusal r);

enum { REPORT_MAX_BYTES = 65536, REPORT_MAX_ID = 64, REPORT_MAX_ERROR = 256 };

struct report {
    char tenant[REPORT_MAX_ID], app[REPORT_MAX_ID];    /* origin; empty: not said */
    char instance[REPORT_MAX_ID], boot[REPORT_MAX_ID]; /* empty: not said */
    int64_t seq;                                       /* -1: not said */
    char error[REPORT_MAX_ERROR];                      /* empty: none */
    double processing_rate, throughput, average_s;     /* messages/s, bytes/s, s a message; NaN: not said */
    double total_mb, total_messages;                   /* NaN: not said */
    int64_t began_ms, from_ms, to_ms;                  /* wall clock; 0: not said */
    double messages, bytes, errors, busy_s;            /* since the instance began (counters); NaN: not said */
    struct {
        uint16_t bucket;
        uint64_t n;
    } buckets[512]; /* since the instance began, of lib/base/hist.h */
    size_t n_buckets;
};

/* Reads n bytes. ERR_FORMAT: refused, for *ret_why and with e saying where; *ret is not to be used then, but for its origin as far
 * as it was read. now_ms: the wall clock. */
int report_parse(const void *p, size_t n, int64_t now_ms, struct report *ret, enum report_refusal *ret_why, struct err *e);

#endif
