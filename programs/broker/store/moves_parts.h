/* What the files of a move share. See moves.h. */
#ifndef SIMBDP_STORE_MOVES_PARTS_H
#define SIMBDP_STORE_MOVES_PARTS_H

#include "moves.h"
#include "parts.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define MOVES_MAGIC   "simbdpm1"
#define MOVES_FORMAT  "simbdpm" /* of all versions */
#define ARRIVING_MARK '>'       /* what no tenant's name begins with */

/* Of the file alone. */
enum {
    MOVES_STREAM_END = 64, /* 0, note */
    MOVES_END = 65         /* 0, how many streams */
};

/* Of records of the file: which of the two numbers at the beginning of a body, or of a tally, is meant. */
enum { MOVES_OF_STREAM = 0, MOVES_OF_SUB = 1 };

static inline uint32_t moves_check_of(const unsigned char *p, size_t n, uint64_t record)
{
    return (uint32_t)XXH3_64bits_withSeed(p + 8, n - 8, record);
}

/* The stream's name within the tenant, if it is one of his; else NULL. name: as the store has it, without ARRIVING_MARK. */
const char *moves_name_in(const char *name, const char *tenant);

#endif
