/* What seglog.c (writing), seglog_open.c (reading it when it is opened) and seglog_spare.c (segments to be) share. See seglog.h. */
#ifndef SIMBDP_STORE_SEGLOG_PARTS_H
#define SIMBDP_STORE_SEGLOG_PARTS_H

#include "seglog.h"

#include "base/buf.h"
#include "segment/segment.h"

#include <pthread.h>

_Static_assert((int)SEGLOG_END == SEGMENT_END && (int)SEGLOG_HEADER == SEGMENT_RECORD &&
                   (int)SEGLOG_MAX_RECORD == SEGMENT_MAX_RECORD,
               "lib/segment has the same format");

/* What to do about a segment that the disk does not give: what is damaged in a file is told, and passed over. */
#define SEGMENT_RESCUE                                                                                                             \
    "if the disk never gives it again, put a copy of what can be read in its place (ddrescue, dd conv=noerror,sync); what it "     \
    "lost is told"

struct segment {
    uint64_t number;
    int fd;
    uint32_t size, used; /* used: where the next record goes */
    int64_t kept;        /* bytes of records that are kept */
};

struct seglog {
    int dirfd;
    struct seglog_ops ops;
    struct segment *segments; /* oldest first; the last one is written to */
    size_t n, cap;
    uint64_t next_number, salt, damage;
    struct buf pending; /* appended, not written: begins at the last segment's `written` */
    uint32_t written;
    bool unsynced, rolling;
    bool begin_due; /* the last segment was there at the start: what it begins with may be missing, or a part of it */
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

static inline uint32_t seglog_check_of(const struct seglog *s, const unsigned char *p, size_t n, uint64_t segment)
{
    return segment_check_of(s->salt, segment, p, n);
}

/* The newest one from here on. TAKE fd. */
struct segment *seglog_add_segment(struct seglog *s, uint64_t number, int fd, uint32_t size);
/* Reads all segments, and tells seglog_ops.on_record of what is in them. */
int seglog_read_all(struct seglog *s, struct err *e);

/* ---- seglog_spare.c ---- */

#define SPARE      "spare"
#define SPARE_TEMP "spare.tmp"
#define SPARE_RAW  "spare.raw"

void *spare_prepare(void *seglog); /* the thread */
/* How large the next segment is to be. */
uint32_t spare_next_size(const struct seglog *s, uint32_t at_least);
/* With the lock held: one is prepared. */
void spare_want(struct seglog *s, uint32_t at_least);
/* A spare segment that takes a record of `at_least` bytes is there, and is the caller's. Waits for the one in preparation. 0 or
 * -ENOSPC. */
int spare_take(struct seglog *s, uint32_t at_least);
/* A segment is at hand that is allocated, not written, for when there is no time for zeros: its syncs cost commits of the file
 * system's journal, but nobody waits for a disk that is busy. */
bool spare_has_raw(struct seglog *s, uint32_t at_least);

#endif
