/* What queue.c (all streams, the log), stream.c (messages), sub.c (subscriptions), slots.c (what became of each message),
 * consumer.c (who holds what), epoch.c (what the _ids of their rows begin with), tally.c (what is counted) and recover.c (what
 * should be there) share. See queue.h for the contract. */
#ifndef SIMBDP_BROKER_QUEUE_PARTS_H
#define SIMBDP_BROKER_QUEUE_PARTS_H

#include "mark.h"
#include "queue.h"
#include "store.h"

#include "base/le.h"
#include "base/map.h"

/* Records, all numbers in little-endian order; strings and lists follow their lengths. Applying one twice changes nothing, but
 * for DELIVERED, which then counts one too many. */
enum record {
    REC_STREAM = 1,  /* id, name_len, next_seq, epoch, name; also where a segment begins */
    REC_STREAM_DROP, /* id */
    REC_PUBLISHERS,  /* stream, n; of each: id, wall_ms, n_ranges, 0, ranges; where a segment begins */
    REC_MESSAGES,    /* struct messages_header, u32 lengths[n], payloads */
    REC_SUB,         /* sub_record(); also where a segment begins */
    REC_SUB_DROP,    /* id */
    REC_ACK,         /* sub, n, ranges */
    REC_DELIVERED,   /* sub, n, ranges */
    REC_DEAD,        /* sub, deliveries, seq, wall_ms, reason */
    REC_REPLAY,      /* sub, 0, seq */
    REC_DROP_DEAD,   /* sub, 0, seq */
    REC_EXPIRED,     /* stream, 0, first seq that is kept */
    REC_EPOCHS,      /* stream, n; of each: first seq, epoch; where a segment begins, behind REC_STREAM */
    REC_GAPS,        /* stream, n, ranges: of what is lost; where a segment begins */
    REC_TALLY,       /* tally_record(), of a stream or subscription; also where a segment begins */
};

struct messages_header {
    uint32_t stream, n;
    uint64_t first, publisher, number;
    int64_t wall_ms;
};

/* One record of messages. */
struct extent {
    uint64_t first;
    struct store_pos at;
    uint32_t n, wall_s;
};

struct publisher {
    uint64_t id;
    int64_t wall_ms;
    struct range *seen; /* numbers, in order, apart */
    size_t n_seen;
};

/* From this sequence on. */
struct era {
    uint64_t first;
    unsigned char epoch[QUEUE_EPOCH];
};

struct stream {
    struct queues *q;
    char *name;
    uint32_t id;
    struct era *eras; /* by sequence, the first one from the beginning on */
    size_t n_eras;
    uint64_t next_seq;
    struct range *gaps; /* in order: sequences that are lost, as far as somebody has still to pass them */
    size_t n_gaps;
    struct stream_loss loss;
    bool unsaved;  /* recover.c: something of it is to be written down before anything is published */
    uint32_t slot; /* of its mark; 0: none */
    bool touched;
    struct stream *next_touched;
    struct tally tally;
    int64_t bytes;
    void *tag;
    struct extent *extents; /* from `head` on, by sequence */
    size_t head, n, cap;
    struct extent *kept; /* below every subscription's floor, but for dead letters and replayed ones */
    size_t n_kept;
    bool look_at_kept; /* something in there may have become unneeded */
    struct map publishers;
    struct sub **subs;
    size_t n_subs;
    /* the record read last */
    struct buf record;
    struct messages_header loaded; /* n 0: none */
    const unsigned char *lengths;
    uint32_t next_i, next_offset; /* where message next_i of it begins: reading goes forward mostly */
};

enum { CHUNK = 512, N_TIMES = 128, MAX_DELIVERIES_COUNTED = 255 };

#define SHARED_NOT_SET UINT64_MAX /* of sub.shared_below: the record is of an earlier version */

enum slot_state { SLOT_AGAIN, SLOT_SUSPECT, SLOT_DELAYED, SLOT_LEASED, SLOT_DONE, SLOT_DEAD };

struct slot {
    uint32_t consumer, bytes;
    uint8_t state, deliveries;
    int64_t until_ms, since_ms;
};

struct chunk {
    uint32_t n_done;
    struct slot v[CHUNK];
};

struct ring {
    uint64_t *v;
    size_t head, n, cap; /* cap is 0 or a power of two */
};

/* Leases of a run of messages, or (consumer 0) one delay. */
struct timed {
    int64_t due_ms;
    uint64_t first, last;
    uint32_t consumer;
};

struct dead {
    uint64_t seq;
    int64_t wall_ms;
    char *reason;
    uint8_t deliveries;
};

struct consumer {
    struct sub *sub;
    void *tag;
    uint32_t id;
    bool alone; /* holds suspects: nothing else meanwhile */
    uint64_t max_n, max_bytes, n_leased, leased_bytes;
    uint64_t low;       /* none of what it holds is before that */
    uint64_t n_ran_out; /* leases, since it was last heard of */
};

struct sub {
    struct stream *stream;
    char *name;
    uint32_t id;
    uint64_t floor, cursor; /* all below floor are done or dead; from cursor on all are fresh */
    uint64_t shared_below;  /* messages before have the stream's epoch: see epoch.c */
    struct chunk **chunks;  /* of the messages from floor (rounded down) to cursor; all_done where all are */
    size_t n_chunks, cap_chunks;
    struct ring again, suspects;
    struct timed *timed; /* a heap */
    size_t n_timed, cap_timed, forget_timed_at;
    struct dead *dead; /* by sequence, from dead_head to n_dead */
    size_t dead_head, n_dead;
    struct consumer **consumers; /* index: id - 1; NULL: free */
    size_t n_consumers, cap_consumers;
    uint32_t slot; /* of its mark; 0: none */
    bool touched;
    struct sub *next_touched;
    struct tally tally;
    uint64_t n_again, n_suspect, n_delayed, n_leased;
    uint64_t redelivered, lost, expired, rejected;
    uint32_t times[N_TIMES]; /* of acks, by time_bucket() */
    int64_t times_sum_ms, times_max_ms, lease_ms;
    int max_deliveries;
    void *tag;
};

struct queues {
    struct store *store;
    struct map streams; /* by name */
    struct map by_id;   /* "s<id>" a stream, "u<id>" a subscription */
    uint32_t next_id;
    bool replaying, published;
    bool unsettled; /* what recover.c has to say is not written down yet */
    struct marks *marks;
    struct stream *touched_streams; /* whose marks are to be written */
    struct sub *touched_subs;
    void (*on_death)(struct sub *s, const struct dead_letter *d);
    struct buf scratch;
};

/* queue.c */
void log_event(struct queues *q, int type, const void *p, size_t n);
void register_id(struct queues *q, char kind, uint32_t id, void *v);
void unregister_id(struct queues *q, char kind, uint32_t id);

/* epoch.c */
const unsigned char *stream_epoch(const struct stream *st); /* of what is published next */
void stream_begin_epoch(struct stream *st);                 /* with what is published next */
void epochs_record(struct stream *st, struct buf *out);
bool epochs_replay(struct stream *st, const unsigned char *p, size_t n);
/* A REC_STREAM says so. */
void stream_replay_epoch(struct stream *st, const unsigned char epoch[QUEUE_EPOCH], uint64_t next_seq);

/* recover.c */
/* Once the log is read. */
void queues_recover(struct queues *q);
/* Writes down what has to be before anything is published; false on a full disk. */
bool queues_settle(struct queues *q);
void queues_mark(struct queues *q); /* the marks of what changed since, behind a commit */
void stream_touch(struct stream *st);
void sub_touch(struct sub *s);
void stream_unmark(struct stream *st);
void sub_unmark(struct sub *s);
/* How many of the sequences from `from` to before `to` were found lost. */
uint64_t stream_n_missing(const struct stream *st, uint64_t from, uint64_t to);
void gaps_record(const struct stream *st, struct buf *out);
bool gaps_replay(struct stream *st, const unsigned char *p, size_t n);

/* tally.c */
void tally_append(struct queues *q, struct tally *t, uint32_t id); /* to the log */
void queues_record_tallies(struct queues *q);                      /* what was counted, with what it counts */
void stream_count(struct stream *st, enum tally_count c, uint64_t n);
void sub_count(struct sub *s, enum tally_count c, uint64_t n);

/* stream.c */
struct stream *stream_new(struct queues *q, const char *name, uint32_t id);
void stream_free(struct stream *st);
void stream_record(const struct stream *st, struct buf *out);
size_t publishers_record(const struct stream *st, struct buf *out); /* how many */
bool publishers_replay(struct stream *st, const unsigned char *p, size_t n);
bool messages_replay(struct stream *st, const struct store_pos *at, const unsigned char *p, size_t n);
void expired_replay(struct stream *st, uint64_t first);
/* Gives back what no subscription needs any more; stream_trim_kept also among what was kept for a few, which takes a look at all of
 * it. */
void stream_trim(struct stream *st);
void stream_trim_kept(struct stream *st);
/* Moves records out of segment `oldest`, up to *budget bytes. True when none is left there. */
bool stream_move(struct stream *st, uint64_t oldest, int64_t *budget);
/* The message, or NULL: ret_next is the first sequence after it that may be there. */
const void *stream_find(struct stream *st, uint64_t seq, size_t *ret_n, int64_t *ret_wall_ms, uint64_t *ret_next);
bool stream_has(const struct stream *st, uint64_t seq);        /* whether it can be read or not */
int64_t stream_wall_ms(const struct stream *st, uint64_t seq); /* about when it was published; 0: not there */

/* sub.c */
struct sub *sub_new(struct stream *st, const char *name, uint32_t id, uint64_t floor);
void sub_free(struct sub *s);
void sub_record(const struct sub *s, struct buf *out);
bool sub_replay_record(struct stream *st, uint32_t id, const unsigned char *p, size_t n);
void sub_replay_ranges(struct sub *s, int type, const struct range *v, size_t n);
void sub_replay_dead(struct sub *s, uint64_t seq, uint32_t deliveries, int64_t wall_ms, const char *reason, size_t n);
bool sub_needs(const struct sub *s, uint64_t first, uint64_t last);
void sub_expire(struct sub *s, uint64_t first); /* all below are done, but for dead ones */
void sub_expire_dead(struct sub *s, int64_t wall_ms);
void sub_recovered(struct sub *s);

/* Advances the floor, and gives back what the stream need not keep for it: after slots were set to done. */
void sub_finish(struct sub *s);
/* The message becomes a dead letter. */
void sub_die(struct sub *s, uint64_t seq, struct slot *t, const char *reason, int64_t wall_ms);
/* A lease ended with an ack after so long. */
void sub_add_time(struct sub *s, int64_t ms);

/* slots.c */
extern struct chunk sub_all_done; /* stands for any chunk whose messages are all done */

static inline struct chunk **sub_chunk_of(const struct sub *s, uint64_t seq)
{
    return &s->chunks[seq / CHUNK - s->floor / CHUNK];
}

/* NULL: done. For seq from floor to below cursor. */
static inline struct slot *sub_slot_of(const struct sub *s, uint64_t seq)
{
    struct chunk *c = *sub_chunk_of(s, seq);
    return c == &sub_all_done ? NULL : &c->v[seq % CHUNK];
}

/* The first from *seq to `last` (both ends included) that has a slot, and its place; NULL: none. What is passed over is done. To be
 * walked with `seq++`; the caller may set states, but not move the floor. */
struct slot *sub_next_slot(const struct sub *s, uint64_t *seq, uint64_t last);
/* The messages up to `next` have slots: they count as to be handed out again, until their state is set. */
void sub_advance(struct sub *s, uint64_t next);
void sub_advance_floor(struct sub *s); /* over all that is done or dead */
void sub_set_state(struct sub *s, uint64_t seq, struct slot *t, uint8_t state);
/* One that was dead, perhaps below the floor, is to be handed out again. */
void sub_reopen(struct sub *s, uint64_t seq);
void sub_free_slots(struct sub *s);
void ring_push(struct ring *r, uint64_t seq);
uint64_t ring_pop(struct ring *r);

/* Little-endian, unaligned; moves *p. False when fewer bytes are left. */
bool take_u32(const unsigned char **p, size_t *n, uint32_t *ret);
bool take_u64(const unsigned char **p, size_t *n, uint64_t *ret);

#endif
