/* A histogram of numbers that come one by one, of which nothing is known before: BINS bins of the same width, a power of two. What
 * does not fit makes all bins twice as wide, and two neighbours one: a self-scaling histogram (M. B. Greenwald, "Practical
 * algorithms for self scaling histograms or better than average data collection", Performance Evaluation 27&28, 1996). Since bins
 * begin at multiples of their width, two histograms can be added up exactly, and the order of the numbers changes nothing. No
 * allocation. */
#ifndef SIMBDP_READ_BINS_H
#define SIMBDP_READ_BINS_H

#include <stdbool.h>
#include <stdint.h>

/* A count stays at UINT32_MAX. Indices stay within 53 bits, where a double is exact. */
enum { BINS = 24 };
#define BINS_MAX_INDEX 0x1p53

/* All zero: no number yet. */
struct bins {
    int64_t first; /* bin k holds [first + k, first + k + 1) times 2^exponent */
    double scale;  /* 2^-exponent; 0: no number yet */
    int exponent;
    uint32_t n[BINS];
};

void bins_add_slowly(struct bins *b, double v);

/* What is not finite is left out. Here, since it is done for each value of a file. */
static inline void bins_add(struct bins *b, double v)
{
    double x = v * b->scale;
    if (__builtin_fabs(x) < BINS_MAX_INDEX) {
        int64_t i = (int64_t)x; /* rounded towards 0, so one less where x is below */
        uint64_t k = (uint64_t)i - (uint64_t)(x < (double)i) - (uint64_t)b->first;
        if (k < BINS && b->n[k] - 1 < UINT32_MAX - 1) {
            b->n[k]++;
            return;
        }
    }
    bins_add_slowly(b, v);
}
/* Adds `n` numbers of bin `index` of a histogram with that exponent. False, and nothing changed: there can be no such bin. */
bool bins_add_bin(struct bins *b, int exponent, int64_t index, int64_t n);
/* Makes bins wider until their exponent is at least that. */
void bins_widen(struct bins *b, int exponent);

/* The first and the last bin that hold something; false: none does. */
bool bins_range(const struct bins *b, int *ret_first, int *ret_last);
double bins_edge(const struct bins *b, int k); /* where bin k begins */

#endif
