#include "chance.h"

#include <math.h>

double rng_uniform(struct rng *r)
{
    uint64_t z = (r->s += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *r)
{
    return sqrt(-2 * log(1 - rng_uniform(r))) * cos(2 * M_PI * rng_uniform(r));
}

double rng_exponential(struct rng *r, double mean)
{
    return -mean * log(1 - rng_uniform(r));
}
