/* What store.c (the log, its segments) and store_read.c (reading it when it is opened) share. See store.h. */
#ifndef SIMBDP_BROKER_STORE_PARTS_H
#define SIMBDP_BROKER_STORE_PARTS_H

#include "store.h"

#include "base/buf.h"

#include <pthread.h>
#include <stdio.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SEGMENT_HEADER = 64, STORE_ALIGN = 8 };

#define STORE_MAGIC "simbdpq1"

struct segment {
    uint64_t number;
    int fd;
    uint32_t size, used; /* used: where the next record goes */
    int64_t kept;        /* bytes of records that are kept */
};

struct store {
    int dirfd;
    struct store_ops ops;
    struct segment *segments; /* oldest first; the last one is written to */
    size_t n, cap;
    uint64_t next_number, salt, damage;
    struct buf pending; /* appended, not written: begins at the last segment's `written` */
    uint32_t written;
    bool unsynced, rolling;
    int64_t kept, bytes;
    uint32_t raw_size;    /* of the segment that is allocated and not written; 0: none */
    int64_t raw_again_ms; /* the disk was full: not tried before */
    int64_t began_ms;     /* the last segment */
    /* the preparing thread */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool quit, wanted, spare, failed;
    uint32_t wanted_size, spare_size;
    int64_t failed_at_ms;
};

static inline uint32_t store_padded(uint32_t n)
{
    return (n + STORE_ALIGN - 1) & ~(uint32_t)(STORE_ALIGN - 1);
}

static inline uint32_t store_check_of(const struct store *s, const unsigned char *p, size_t n, uint64_t segment)
{
    return (uint32_t)XXH3_64bits_withSeed(p + 8, n - 8, s->salt ^ segment);
}

static inline void store_name_of(uint64_t number, char out[32])
{
    snprintf(out, 32, "%016llx.seg", (unsigned long long)number);
}

/* The newest one from here on. TAKE fd. */
struct segment *store_add_segment(struct store *s, uint64_t number, int fd, uint32_t size);
/* Reads all segments, and tells store_ops.on_record of what is in them. */
int store_read_all(struct store *s, struct err *e);

#endif
