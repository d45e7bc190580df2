/* A figure over the last minutes: its mean in each of the last slots of time, and NaN where it was not known. Bounded, whatever
 * comes. Slots are counted by the monotonic clock, which all programs of a host share. No loop, no clock. */
#ifndef SIMBDP_BASE_TREND_H
#define SIMBDP_BASE_TREND_H

#include "buf.h"

#include <stdbool.h>
#include <stdint.h>

enum { TREND_SLOTS = 60, TREND_SLOT_MS = 5000 };

struct trend {    /* zeroed: nothing is known */
    int64_t slot; /* the newest one; 0: none */
    double sum;   /* of what came in it */
    int n;
    float v[TREND_SLOTS]; /* slot s is at s % TREND_SLOTS */
};

int64_t trend_slot(int64_t now_ms); /* positive */
/* A value at that time of clk_now_ms. NaN leaves it as it is. */
void trend_take(struct trend *c, int64_t now_ms, double value);
/* The mean in a slot; NaN: not known, or too long ago. */
double trend_at(const struct trend *c, int64_t slot);
/* What another program knows of a slot, whatever was known here. NaN leaves it as it is. */
void trend_fill(struct trend *c, int64_t slot, double value);
/* Those of all slots until now_ms, TREND_SLOTS numbers, the newest last. */
void trend_values(const struct trend *c, int64_t now_ms, double *ret);
/* Adds the member `key`: an array of them with null for what is not known, without the nulls that lead. */
void trend_json(const struct trend *c, int64_t now_ms, const char *key, struct buf *out);

#endif
