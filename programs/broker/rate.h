/* A stream's publishing limits: token buckets for messages and bytes, and breaches in a window. Pure; the clock is passed in. */
#ifndef SIMBDP_BROKER_RATE_H
#define SIMBDP_BROKER_RATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Fills with `rate` a second up to what of it comes in burst_ms, and to one at least. A request larger than that passes when the
 * bucket is full, and is paid for afterwards. */
struct bucket {
    double tokens;
    int64_t at_ms;
    bool begun;
};

/* How many ms to wait until `n` may be taken; 0: now. rate -1: no limit. Does not take. */
int64_t bucket_wait_ms(struct bucket *b, int64_t rate, int64_t burst_ms, int64_t n, int64_t now_ms);
/* How many may come at once; INT64_MAX: any number. */
int64_t bucket_size(int64_t rate, int64_t burst_ms);
void bucket_take(struct bucket *b, int64_t rate, int64_t n);

/* Times of the last breaches; a ring of `max`. */
struct breaches {
    int64_t *at_ms;
    size_t max, next, n;
};

/* Counts one; true when `max` of them lie within window_ms. */
bool breaches_add(struct breaches *b, size_t max, int64_t window_ms, int64_t now_ms);
void breaches_fini(struct breaches *b);

#endif
