/* An append-only log in segment files, with a checksum for every record: what streams are kept in.
 *
 * Records are collected in memory and written by seglog_commit, all of a turn in one write and one fdatasync. A record is never
 * changed; whoever keeps records says how much of each segment is still needed, and the oldest segment is given back when
 * nothing of it is. Before a segment takes other records it is filled with zeros by a thread of the store's own, so that a commit
 * never waits for the file system to allocate, and a segment that was given back is used again.
 *
 * Format, little-endian. A segment <number as 16 hex digits>.seg: a header of 64 bytes (magic "simbdpq1", number,
 * size, salt of the store, check at 56), then records at multiples of 8:
 *
 *   u32 size    of header and body, without padding
 *   u32 check   low half of XXH3-64 (github.com/Cyan4973/xxHash) over the rest of header and body, seeded with
 *               salt xor number: no publisher can put what passes for a record into a message
 *   u8  type    1 to 254; SEGLOG_END after the last record of a segment that is full
 *   u8[7]       zero
 *
 * and 16 zero bytes behind the last one. A write that was cut short by a power cut lies behind all that was confirmed; bytes
 * that were damaged lie anywhere. Either way reading goes on at the next record whose check is right; what was skipped is
 * copied to damaged/ and reported.
 *
 * One thread, besides the one that prepares. Calls block on the disk where said. */
#ifndef SIMBDP_STORE_SEGLOG_H
#define SIMBDP_STORE_SEGLOG_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
    SEGLOG_END = 255,
    SEGLOG_HEADER = 16,           /* bytes before a record's body */
    SEGLOG_MAX_RECORD = 32 << 20, /* with its header */
    SEGLOG_MIN_SEGMENT = 1 << 20,
    SEGLOG_MAX_SEGMENT = 64 << 20,
};

struct seglog;

struct seglog_pos {
    uint64_t segment; /* 0: nowhere */
    uint32_t offset, size;
};

struct seglog_ops {
    /* While the store is opened: every record, in order. `body` is valid during the call. */
    void (*on_record)(void *arg, const struct seglog_pos *at, int type, const unsigned char *body, size_t n);
    /* A segment was begun: whatever is needed to make sense of later records alone is to be appended now. */
    void (*on_segment)(void *arg);
    size_t (*segment_begins_with)(void *arg); /* how many bytes that may be */
    void *arg;
    uint64_t newest; /* segment that is known to have been there; its number is not used again. 0: not known */
    bool is_copy;    /* it may be an older state of the store: numbers come again, so what the spare segment held is not kept */
};

/* Opens or makes the store in directory `dirfd`, which is kept. Damage is logged and set aside; -errno when the directory cannot
 * be used, ERR_VERSION for a format of a newer program. Blocks. */
int seglog_open(int dirfd, const struct seglog_ops *ops, struct seglog **ret, struct err *e);
/* Commits what was appended. */
void seglog_close(struct seglog *s);
/* Drops what was not committed, as a kill would. */
void seglog_abandon(struct seglog *s);

/* Appends a record whose body is the parts one after the other. Not durable before seglog_commit; readable at once. `vital` records
 * may use the room that is kept for when the disk is full. -ENOSPC when there is none, -EMSGSIZE above SEGLOG_MAX_RECORD. May
 * block, and call on_segment, where a segment is full. */
int seglog_append(struct seglog *s, int type, const struct iovec *parts, int n_parts, bool vital, struct seglog_pos *ret_at);

/* Writes what was appended; sync: and waits until it is durable. Blocks. Ends the program when the disk refuses: what is
 * there is read again by the next one. */
void seglog_commit(struct seglog *s, bool sync);
bool seglog_is_synced(const struct seglog *s); /* nothing was written since the last sync */

/* Reads a record's body into `room` (at->size bytes, enough for header and body); its first byte. NULL when the check fails: the
 * bytes were damaged since. Blocks. */
const unsigned char *seglog_read(struct seglog *s, const struct seglog_pos *at, void *room);

/* The caller keeps or no longer needs a record. */
void seglog_keep(struct seglog *s, const struct seglog_pos *at);
void seglog_release(struct seglog *s, const struct seglog_pos *at);

/* Gives back the oldest segments of which nothing is kept; commits and syncs before. True when the oldest one should be emptied
 * (its records appended anew and released) because the segments hold more than twice of what is kept. */
bool seglog_tidy(struct seglog *s, uint64_t *ret_oldest);

/* The segment that is written to; 0: none was begun. */
uint64_t seglog_newest(const struct seglog *s);
/* Stands for all damage that was found when it was opened, the same as long as that is there; 0: none. */
uint64_t seglog_damage(const struct seglog *s);

/* Bytes of segments, bytes kept of them; whether publishing has to wait for disk space. */
void seglog_figures(const struct seglog *s, int64_t *ret_bytes, int64_t *ret_kept_bytes);
bool seglog_is_full(struct seglog *s);

#endif
