/* MurmurHash2, 32 bits, by Austin Appleby (public domain), with the seed of Kafka's default partitioner: clients of any language
 * that partition as Kafka's Java client does send a key to the same partition. */
#ifndef SIMBDP_WIRE_MURMUR2_H
#define SIMBDP_WIRE_MURMUR2_H

#include "base/le.h"

#include <stddef.h>
#include <stdint.h>

static inline uint32_t murmur2(const void *key, size_t n)
{
    const uint32_t m = 0x5bd1e995;
    const unsigned char *p = key;
    uint32_t h = 0x9747b28c ^ (uint32_t)n;
    for (; n >= 4; p += 4, n -= 4) {
        uint32_t k = le_u32(p) * m;
        h = (h * m) ^ ((k ^ (k >> 24)) * m);
    }
    if (n > 2)
        h ^= (uint32_t)p[2] << 16;
    if (n > 1)
        h ^= (uint32_t)p[1] << 8;
    if (n > 0)
        h = (h ^ p[0]) * m;
    h = (h ^ (h >> 13)) * m;
    return h ^ (h >> 15);
}

/* Of 0 to n_parts - 1. */
static inline uint32_t murmur2_partition(const void *key, size_t n, uint32_t n_parts)
{
    return (murmur2(key, n) & 0x7fffffff) % n_parts;
}

#endif
