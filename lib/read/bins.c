#include "bins.h"

#include <math.h>
#include <string.h>

/* FINE_BITS: the first bins are so much narrower than the first number is large. */
enum { FINE_BITS = 40, MIN_EXPONENT = -1000, MAX_EXPONENT = 1024 };

static void set_exponent(struct bins *b, int exponent)
{
    b->exponent = exponent;
    b->scale = ldexp(1, -exponent);
}

static int64_t half(int64_t i)
{
    return i >= 0 ? i / 2 : -((1 - i) / 2); /* rounded down */
}

bool bins_range(const struct bins *b, int *ret_first, int *ret_last)
{
    int first = 0, last = BINS - 1;
    while (first < BINS && !b->n[first])
        first++;
    while (last > first && !b->n[last])
        last--;
    *ret_first = first;
    *ret_last = last;
    return first < BINS;
}

double bins_edge(const struct bins *b, int k)
{
    return ldexp((double)(b->first + k), b->exponent);
}

static void add(uint32_t *count, int64_t n)
{
    *count = n < UINT32_MAX - (int64_t)*count ? *count + (uint32_t)n : UINT32_MAX;
}

static void widen(struct bins *b)
{
    uint32_t n[BINS] = {0};
    int64_t first = half(b->first);
    for (int k = 0; k < BINS; k++)
        add(&n[half(b->first + k) - first], b->n[k]);
    memcpy(b->n, n, sizeof n);
    b->first = first;
    set_exponent(b, b->exponent + 1);
}

void bins_widen(struct bins *b, int exponent)
{
    while (b->scale != 0 && b->exponent < exponent)
        widen(b);
}

/* Moves the bins so that `index` is one of them, in the middle of what is free. False: they have to become wider first. */
static bool move_to(struct bins *b, int64_t index)
{
    int first, last;
    if (!bins_range(b, &first, &last)) {
        b->first = index - BINS / 2;
        return true;
    }
    int64_t low = b->first + first, high = b->first + last;
    low = index < low ? index : low;
    high = index > high ? index : high;
    if (high - low >= BINS)
        return false;
    int64_t begin = low - (BINS - (high - low + 1)) / 2;
    uint32_t n[BINS] = {0};
    for (int k = first; k <= last; k++)
        n[b->first + k - begin] = b->n[k];
    memcpy(b->n, n, sizeof n);
    b->first = begin;
    return true;
}

/* index: of exponent b->exponent. */
static void add_at(struct bins *b, int64_t index, int64_t n)
{
    for (; index < b->first || index >= b->first + BINS; index = half(index)) {
        if (move_to(b, index))
            break;
        widen(b);
    }
    add(&b->n[index - b->first], n);
}

static void begin(struct bins *b, double v)
{
    int exponent = v == 0 ? MIN_EXPONENT : ilogb(v) - FINE_BITS;
    set_exponent(b, exponent > MIN_EXPONENT ? exponent : MIN_EXPONENT);
    b->first = (int64_t)floor(v * b->scale) - BINS / 2;
}

void bins_add_slowly(struct bins *b, double v)
{
    if (!isfinite(v))
        return;
    if (b->scale == 0)
        begin(b, v);
    while (fabs(v * b->scale) >= BINS_MAX_INDEX)
        widen(b);
    add_at(b, (int64_t)floor(v * b->scale), 1);
}

bool bins_add_bin(struct bins *b, int exponent, int64_t index, int64_t n)
{
    if (exponent < MIN_EXPONENT || exponent > MAX_EXPONENT || fabs((double)index) >= BINS_MAX_INDEX || n < 0)
        return false;
    if (!n)
        return true;
    if (b->scale == 0) {
        set_exponent(b, exponent);
        b->first = index - BINS / 2;
    }
    bins_widen(b, exponent);
    for (int e = exponent; e < b->exponent; e++)
        index = half(index);
    add_at(b, index, n);
    return true;
}
