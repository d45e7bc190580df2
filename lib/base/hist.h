/* Times in a histogram that can be added to another: DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile
 * sketch with relative-error guarantees", PVLDB 12(12), 2019), with a fixed range and fixed accuracy, so that all are alike.
 *
 * Bucket i counts times t with HIST_GAMMA^(i-1) < t / 1 us <= HIST_GAMMA^i; bucket 0 all up to 1 us, the last one all above. A
 * quantile is off by at most HIST_ACCURACY of itself. */
#ifndef SIMBDP_BASE_HIST_H
#define SIMBDP_BASE_HIST_H

#include <stdint.h>

#define HIST_ACCURACY 0.025
#define HIST_GAMMA    ((1 + HIST_ACCURACY) / (1 - HIST_ACCURACY))

enum { HIST_BUCKETS = 448 }; /* up to an hour */

struct hist {
    uint64_t counts[HIST_BUCKETS];
    uint64_t n;
};

/* us: microseconds; negative values and NaN count as 0. */
unsigned hist_bucket(double us);
void hist_add(struct hist *h, double us, uint64_t n);
void hist_add_bucket(struct hist *h, unsigned bucket, uint64_t n); /* bucket < HIST_BUCKETS */
void hist_merge(struct hist *h, const struct hist *other);
/* The quantile q (0 to 1) in microseconds; NaN when the histogram is empty. */
double hist_quantile(const struct hist *h, double q);

#endif
