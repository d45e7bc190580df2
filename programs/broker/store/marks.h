/* Watermarks: how far each stream was confirmed, and each subscription acknowledged, in a small file beside the store, so that what
 * the store has lost is known by its number.
 *
 * A mark is written behind each commit of what it is about, and not synced: it outlives the program, and goes to the disk with one
 * of the log's next syncs. So a stream's is never ahead of an undamaged log, and tells more than a damaged one; after a power cut
 * it may be a second behind, when the log, which is synced, is ahead of it. A subscription's tells what was acknowledged, which the
 * log may have lost in a power cut: it counts what is lost, and settles nothing.
 *
 * Format: slots of MARK_SLOT bytes, little-endian. A slot is written in one go and lies within a sector:
 *
 *   u64 check   XXH3-64 over the rest of the slot, seeded with the slot's number
 *   u8  kind    enum mark_kind
 *   u8[3]       zero
 *   u32 of      MARK_SUB: the slot of its stream
 *   u64 next    MARK_STREAM: the sequence that is next; MARK_SUB: all before are done or dead
 *   u64 more    MARK_SUB: shared_below (epoch.c)
 *   u8[16]      MARK_STREAM: the epoch
 *   name        and zeros behind
 *
 * Slot 0 is about the file: next is the store's newest segment, more what damage of the store is known, the 16 bytes are the file's
 * inode and time of birth. A copy of the file has others, so a state that was restored from a copy does not pass for the one that
 * was left. */
#ifndef SIMBDP_STORE_MARKS_H
#define SIMBDP_STORE_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MARK_SLOT = 256, MARK_EPOCH = 16, MARK_NAME = 200 };

enum mark_kind { MARK_NONE, MARK_STREAM, MARK_SUB, MARK_FILE };

struct mark {
    enum mark_kind kind;
    uint32_t of;
    uint64_t next, more;
    unsigned char epoch[MARK_EPOCH];
    char name[MARK_NAME];
};

struct marks;

/* Reads what is there; a slot that is damaged is MARK_NONE. TAKE fd, -1: nothing is there and nothing is kept. Blocks. */
struct marks *marks_open(int fd);
void marks_close(struct marks *m); /* NULL is fine */

/* Slots, from 1 on; NULL beyond the last. */
const struct mark *marks_at(const struct marks *m, uint32_t slot);
/* The file is there, and no copy. */
bool marks_are_original(const struct marks *m);
uint64_t marks_newest_segment(const struct marks *m);
uint64_t marks_known_damage(const struct marks *m);

/* Writes a mark; slot 0: a new one. Its slot, or 0 when it cannot be kept. */
uint32_t marks_put(struct marks *m, uint32_t slot, const struct mark *v);
void marks_drop(struct marks *m, uint32_t slot);
/* The marks are of the store as it is now, and durable when this returns. Blocks. */
void marks_vouch(struct marks *m, uint64_t newest_segment, uint64_t damage);
/* What was put is on its way to the disk, and new slots are there. Blocks only for those. */
void marks_push(struct marks *m, uint64_t newest_segment);
void marks_sync(struct marks *m);

#endif
