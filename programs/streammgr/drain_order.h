/* Who is drained first, as plain functions: no loop, no clock. */
#ifndef SIMBDP_STREAMMGR_DRAIN_ORDER_H
#define SIMBDP_STREAMMGR_DRAIN_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DRAIN_NOBODY = -1 };

/* An instance that counts and was not told to go. */
struct drain_candidate {
    bool old;       /* of another generation than the one that is wanted */
    bool ready;     /* it does its work */
    int64_t leased; /* messages that it holds, whose redelivery or delay its end may cost; -1: it does not consume */
};
/* Which of an app's instances can be spared best, by number: one of another generation, then one that is not ready, then the one
 * that holds the least, then the first. So they are given the youngest first. only_old: none of the wanted generation. */
int64_t drain_first(const struct drain_candidate *v, size_t n, bool only_old);

/* An app that could give up an instance, so that another app gets its first. */
struct drain_giver {
    int64_t n;   /* scaled instances that were not told to go */
    int64_t min; /* min_instances; what it was promised is not taken */
};
/* The app with the most, by number; none is left without an instance, or below its minimum. */
int64_t drain_richest(const struct drain_giver *v, size_t n);

#endif
