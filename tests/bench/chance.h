/* Chance for simulators: splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014). The same
 * seed gives the same numbers everywhere. */
#ifndef SIMBDP_BENCH_CHANCE_H
#define SIMBDP_BENCH_CHANCE_H

#include <stdint.h>

struct rng {
    uint64_t s;
};
double rng_uniform(struct rng *r); /* [0, 1) */
double rng_normal(struct rng *r);
double rng_exponential(struct rng *r, double mean);

#endif
