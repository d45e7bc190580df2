/* What the broker and simbdp-kafka say to each other, over a pair of stream sockets. Numbers are little-endian; a string is its
 * length (u32) and its bytes. A frame: u32 how many bytes follow, u32 verb, u32 stream (a number of the broker's choice), the rest:
 *
 * From the broker:
 *
 * - OPEN: topic; u32 partition; u32 partitions; u32 replicas; u64 largest message; u32 n; n names of groups. Makes the topic, or
 *   more partitions, where they are not there. A number is of one partition.
 * - FOLLOW: u64 offset. RECORDs come from there on; one that was followed before is followed anew.
 * - PRODUCE: u64 request; u64 publisher, u64 number, u64 wall_ms; u32 n; u32 traced: 0, 1 (one trace for all) or n; the
 *   key's length (u32; 0: none) and bytes; u32 length[n]; traces (KAFKA_TRACE bytes each); the messages, to the end of the frame.
 * - COMMIT: group; u64 offset; text that is kept with it.
 * - TRIM: u64 offset: records before it are not needed any more.
 * - CLOSE: nothing comes of this stream any more.
 * - JOIN (stream 0): group; name of the member; u32 session in ms; u32 n; n topics, whose partitions we share with the group's
 *   other members (0: none any more).
 * - KEEP: u64 offset; text. As COMMIT, in the group of JOIN and as its member: refused to one that was given up.
 * - LOOK: group; u32 partitions: what that group keeps of the topic, all of them.
 * - RELEASE (stream 0): what was to be kept of revoked partitions was said.
 * - ALIVE (stream 0): it is. Once a second, or the partitions go to others; it is answered with ALIVE.
 *
 * From simbdp-kafka:
 *
 * - OPENED: text (empty: it is open, and the rest follows; one that begins with KAFKA_SOON: it may be in a moment); u64 first
 *   offset, u64 end; u32 n; of each group: u64 offset + 1 (0: there is none), text.
 * - PRODUCED: u64 request; text (empty: all are stored); u64 offset of the first, or KAFKA_OFFSET_UNKNOWN.
 * - RECORD: u64 offset; u64 publisher, u64 number, u64 wall_ms; u32 traced: 0 or 1; the trace; the message, to the end.
 * - COMMITTED: group; text (empty: it is).
 * - ASSIGNMENT (stream 0): text (empty; or why we are no member any more, and will not be again); u32 1: RELEASE is waited for;
 *   u32 n; n times topic, u32 partition: all that are ours.
 * - LOOKED: n times u32 partition, text; those that are there, none where Kafka does not say.
 * - KEPT: text (empty: it is).
 * - ALIVE (stream 0).
 * - BROKEN, text: what was followed is not there (any more); the stream is to be opened anew.
 * - TRIMMED, text: empty, or why records were not given up.
 * - DOWN, text: no node of Kafka answers; stream 0.
 *
 * Confirmed is what PRODUCED says is stored: acks=all, by an idempotent producer. simbdp-kafka keeps nothing: when it ends, what
 * was under way is not known to be stored, and may be. */
#ifndef SIMBDP_WIRE_KAFKA_FRAMES_H
#define SIMBDP_WIRE_KAFKA_FRAMES_H

#include "base/le.h"

#include <stdint.h>
#include <string.h>

#define KAFKA_SOON "soon: "
/* Records that librdkafka sent again since the answer was lost with its node: they are stored, and Kafka does not say where. */
#define KAFKA_OFFSET_UNKNOWN UINT64_MAX

enum kafka_verb {
    KAFKA_OPEN = 1,
    KAFKA_FOLLOW,
    KAFKA_PRODUCE,
    KAFKA_COMMIT,
    KAFKA_TRIM,
    KAFKA_CLOSE,
    KAFKA_JOIN,
    KAFKA_KEEP,
    KAFKA_RELEASE,
    KAFKA_ALIVE,
    KAFKA_LOOK,
    KAFKA_OPENED = 64,
    KAFKA_PRODUCED,
    KAFKA_RECORD,
    KAFKA_COMMITTED,
    KAFKA_BROKEN,
    KAFKA_DOWN,
    KAFKA_TRIMMED,
    KAFKA_ASSIGNMENT,
    KAFKA_KEPT,
    KAFKA_LOOKED
};

enum {
    KAFKA_FRAME_HEAD = 8,         /* verb and stream */
    KAFKA_TRACE = 26,             /* as WIRE_TRACE_BYTES */
    KAFKA_MAX_FRAME = 192 << 20,  /* above, the other side is not what it was */
    KAFKA_MAX_MESSAGES = 1 << 17, /* of a request */
    KAFKA_MAX_TEXT = 3500,        /* kept with an offset: Kafka's offset.metadata.max.bytes is 4096 */
};

/* A frame is begun in a buffer, in which it is alone; ended, it can be sent. */
static inline void kafka_frame_begin(struct buf *f, enum kafka_verb verb, uint32_t stream)
{
    f->n = 0;
    le_add_u32(f, 0);
    le_add_u32(f, verb);
    le_add_u32(f, stream);
}

static inline void kafka_frame_add_str(struct buf *f, const char *s)
{
    le_add_u32(f, (uint32_t)strlen(s));
    buf_adds(f, s);
}

static inline void kafka_frame_end(struct buf *f)
{
    le_set_u32(f->p, (uint32_t)(f->n - 4));
}

#endif
