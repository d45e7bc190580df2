/* A segment of the broker's log as a file: what programs/broker/store/seglog.h says of its bytes, for the broker, which writes it,
 * and for a backup, which reads it while the broker does. */
#ifndef SIMBDP_SEGMENT_SEGMENT_H
#define SIMBDP_SEGMENT_SEGMENT_H

#include "base/le.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    SEGMENT_HEADER = 64,
    SEGMENT_ALIGN = 8,
    SEGMENT_RECORD = 16,           /* bytes of a record before its body */
    SEGMENT_MAX_RECORD = 32 << 20, /* with those */
    SEGMENT_MAX = 4 * (64 << 20),  /* more than any segment has: one holds a record twice, or 64 MiB */
    SEGMENT_END = 255,             /* type of the last record of a segment that is full */
    SEGMENT_NAME = 32,             /* room for a name */
};

#define SEGMENT_MAGIC "simbdpq1"
enum { SEGMENT_VERSION_AT = 7 }; /* the digit of the magic which is the version */

struct segment_header {
    uint64_t number, size, salt;
};

static inline uint32_t segment_padded(uint32_t n)
{
    return (n + SEGMENT_ALIGN - 1) & ~(uint32_t)(SEGMENT_ALIGN - 1);
}

static inline void segment_name_of(uint64_t number, char out[SEGMENT_NAME])
{
    snprintf(out, SEGMENT_NAME, "%016llx.seg", (unsigned long long)number);
}

/* Of a record of n bytes at p, which is in segment `number`. */
static inline uint32_t segment_check_of(uint64_t salt, uint64_t number, const unsigned char *p, size_t n)
{
    return (uint32_t)XXH3_64bits_withSeed(p + 8, n - 8, salt ^ number);
}

static inline bool segment_is_header(const unsigned char h[SEGMENT_HEADER])
{
    return !memcmp(h, SEGMENT_MAGIC, 8) && le_u32(h + 56) == (uint32_t)XXH3_64bits(h, 56);
}

/* A whole header of a version that this one does not know. */
static inline bool segment_is_newer(const unsigned char h[SEGMENT_HEADER])
{
    return !memcmp(h, SEGMENT_MAGIC, SEGMENT_VERSION_AT) && h[SEGMENT_VERSION_AT] > SEGMENT_MAGIC[SEGMENT_VERSION_AT] &&
           le_u32(h + 56) == (uint32_t)XXH3_64bits(h, 56);
}

/* How far the bytes of a segment are whole. */
struct segment_scan {
    struct segment_header header;
    uint64_t n_records;
    uint32_t end;   /* behind the last record that is whole, with all before it */
    bool is_header; /* else nothing of this is known */
    bool is_full;   /* the record that says so was found: there are no others to come */
    bool goes_on;   /* a whole record lies behind `end`: what is between is damaged, or was just being written */
};

/* Reads n bytes of a segment, from its header on. Takes time in proportion to them. */
void segment_scan(const unsigned char *p, size_t n, struct segment_scan *ret);

#endif
