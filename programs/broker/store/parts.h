/* What the files of the lower storey share: the state of streams and subscriptions, and what each file does for the others. See
 * streams.h for the contract. */
#ifndef SIMBDP_STORE_PARTS_H
#define SIMBDP_STORE_PARTS_H

#include "marks.h"
#include "seglog.h"
#include "streams.h"

#include "base/le.h"
#include "base/map.h"

/* Records of the log. Numbers are little-endian; strings and lists come behind their lengths. A record that is read twice changes
 * nothing the second time, but for DELIVERED, which then counts a delivery too many. */
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
    REC_TRACES,      /* traces.c, behind the REC_MESSAGES that it is about */
    REC_MIRROR,      /* stream, 1 or 0, u64 base: mirror.c; where a segment begins, behind REC_STREAM */
    REC_WHOLE = 32,  /* arrivals.c, as the next one */
    REC_SETTLED,
};

/* ---- state ---- */

struct messages_header {
    uint32_t stream, n;
    uint64_t first, publisher, number;
    int64_t wall_ms;
};

/* One record of messages. */
struct extent {
    uint64_t first;
    struct seglog_pos at;
    uint32_t n, wall_s;
};

/* One record of traces: of the messages of the extent that begins with `first`. */
struct traced {
    uint64_t first;
    struct seglog_pos at;
};

struct publisher {
    uint64_t id;
    int64_t wall_ms;    /* when it was heard of last */
    struct range *seen; /* its numbers, in order; no two touch */
    size_t n_seen;
};

/* The epoch of a stream from this sequence on. */
struct era {
    uint64_t first;
    unsigned char epoch[EPOCH_BYTES];
};

struct stream {
    struct streams *all;
    char *name;
    uint32_t id;
    struct era *eras; /* by sequence; the first one counts from sequence 1 on */
    size_t n_eras;
    uint64_t next_seq;
    struct range *gaps; /* in order: sequences that are lost, as far as some subscription has still to pass them */
    size_t n_gaps;
    struct stream_loss loss;
    bool unsaved; /* what recover.c found is to be written down before anything is published */
    bool mirror;  /* mirror.c; with the sequence before its first record's */
    uint64_t base;
    bool whole; /* arrivals.c; with the caller's note */
    uint32_t note;
    uint64_t count_from;    /* what comes with lower sequences was counted elsewhere */
    int64_t newest_wall_ms; /* of a mirror: when what came last was published */
    uint32_t slot;          /* of its mark; 0: none */
    bool touched;
    struct stream *next_touched;
    struct tally tally;
    int64_t bytes;
    void *tag;
    struct extent *extents; /* from `head` on, by sequence */
    size_t head, n, cap;
    struct extent *kept; /* below every subscription's floor; kept for dead letters and replayed ones */
    size_t n_kept;
    bool look_at_kept; /* something in there may have become unneeded */
    struct map publishers;
    struct sub **subs;
    size_t n_subs;
    /* the record that was read last */
    struct buf record;
    struct messages_header loaded; /* n 0: none */
    const unsigned char *lengths;
    uint32_t next_i, next_offset; /* where message next_i of it begins: reading mostly goes forward */
    struct traced *traced;        /* from `traced_head` on, by sequence */
    size_t traced_head, n_traced, cap_traced;
    struct buf traces; /* the record that was read last; n 0: none */
    uint64_t traces_first;
};

enum { CHUNK = 512, N_TIMES = 128, MAX_DELIVERIES_COUNTED = 255 };

#define SHARED_NOT_SET UINT64_MAX /* of sub.shared_below: the record is of an earlier version */

/* What became of a message for a subscription. sub_set_state() is the only way from one to another. */
enum slot_state {
    SLOT_AGAIN,   /* to be handed out again */
    SLOT_SUSPECT, /* its consumer died while it held this and others: handed out apart from the rest */
    SLOT_DELAYED, /* to be handed out again later */
    SLOT_LEASED,
    SLOT_DONE,
    SLOT_DEAD,
    N_SLOT_STATES
};

/* 32 bytes for each message between a subscription's floor and its cursor. */
struct slot {
    uint32_t consumer, bytes;
    uint8_t state, deliveries;
    int64_t until_ms, since_ms;
};

struct chunk {
    uint32_t n_over; /* done or dead; a chunk in which all are is freed */
    struct slot v[CHUNK];
};

struct ring {
    uint64_t *v;
    size_t head, n, cap; /* cap is 0 or a power of two */
};

/* When the leases of a run of messages end; or (consumer 0) when a nacked message is to be handed out again. */
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

/* What a peer may hold, and holds: of one consumer, or of several that are the same peer. */
struct window {
    uint64_t max_n, max_bytes, n_leased, leased_bytes;
    bool alone;            /* it holds suspects: nothing else meanwhile */
    bool ends, one_at_end; /* its consumers are being detached; it held one message when that began */
    uint64_t n_ran_out;    /* leases, since it was last heard of */
};

struct consumer {
    struct sub *sub;
    void *tag;
    uint32_t id;
    struct window *window, own; /* window: its own, or another consumer's */
    uint64_t n_leased;          /* of this subscription */
    uint64_t low;               /* none of what it holds is before that */
};

struct sub {
    struct stream *stream;
    char *name;
    uint32_t id;
    uint64_t floor, cursor; /* all below floor are done or dead; from cursor on all are fresh */
    uint64_t shared_below;  /* messages before have the stream's epoch: see epoch.c */
    struct chunk **chunks;  /* of the messages from floor (rounded down) to cursor; chunk_all_done where all are */
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
    struct sub_lasted lasted;
    int max_deliveries;
    void *tag;
};

struct streams {
    struct seglog *log;
    struct map streams;  /* by name */
    struct map arriving; /* likewise: arrivals.c */
    struct map by_id;    /* "s<id>" a stream, "u<id>" a subscription */
    uint32_t next_id;
    bool loading;   /* the log is being read: nothing is written to it */
    bool published; /* since the last commit */
    bool unsaved;   /* some stream is */
    struct marks *marks;
    struct stream *touched_streams; /* whose marks are to be written */
    struct sub *touched_subs;
    void (*on_death)(struct sub *s, const struct dead_letter *d);
    struct buf scratch;
};

/* ---- streams.c ---- */

/* Appends a record of what happened. On a full disk it is not written: what happened counts all the same, and happens again after
 * a restart. Does nothing while the log is read. */
void log_event(struct streams *all, int type, const void *p, size_t n);
/* kind: 's' a stream, 'u' a subscription. */
void register_id(struct streams *all, char kind, uint32_t id, void *v);
void unregister_id(struct streams *all, char kind, uint32_t id);
void *streams_by_id(const struct streams *all, char kind, uint32_t id); /* NULL: none */
/* Little-endian, unaligned; moves *p. False when fewer bytes are left. */
bool take_u32(const unsigned char **p, size_t *n, uint32_t *ret);
bool take_u64(const unsigned char **p, size_t *n, uint64_t *ret);

/* ---- load.c, snapshot.c: for seglog_ops ---- */

void streams_on_record(void *streams, const struct seglog_pos *at, int type, const unsigned char *body, size_t n_body);
void streams_on_segment(void *streams);
size_t streams_segment_begins_with(void *streams); /* an upper bound of what streams_on_segment writes */

/* ---- commit.c ---- */

/* The mark is written behind the next commit. */
void stream_touch(struct stream *st);
void sub_touch(struct sub *s);
void stream_put_mark(struct stream *st);
void sub_put_mark(struct sub *s);
/* Drops marks, before the log forgets what they are about: or it would be missed at the next start. */
void stream_unmark(struct stream *st);
void sub_unmark(struct sub *s);

/* ---- recover.c ---- */

/* Once the log is read. */
void streams_recover(struct streams *all);
/* Writes down what has to be before anything is published; false on a full disk. */
bool streams_save_recovered(struct streams *all);

/* ---- gaps.c ---- */

/* How many of the sequences from `from` to before `to` were found lost. */
uint64_t stream_n_missing(const struct stream *st, uint64_t from, uint64_t to);
/* Finds the gaps, and counts what of them each subscription lost. True when some were not known. */
bool gaps_count(struct stream *st);
void gaps_record(const struct stream *st, struct buf *out);
bool gaps_load(struct stream *st, const unsigned char *p, size_t n);
/* There is nothing for anybody in these, which are the next ones; it is written down. */
void gaps_add(struct stream *st, uint64_t n);

/* ---- epoch.c ---- */

void stream_begin_epoch(struct stream *st); /* with what is published next */
/* Of a stream without messages: it has this one from sequence 1 on. */
void stream_set_epoch(struct stream *st, const unsigned char epoch[EPOCH_BYTES]);
void epochs_record(struct stream *st, struct buf *out);
bool epochs_load(struct stream *st, const unsigned char *p, size_t n);
/* A REC_STREAM says so. */
void stream_load_epoch(struct stream *st, const unsigned char epoch[EPOCH_BYTES], uint64_t next_seq);

/* ---- mirror.c ---- */

void mirror_record(const struct stream *st, struct buf *out);
bool mirror_load(struct stream *st, const unsigned char *p, size_t n);
/* Drops mirrors of which it is not certain that they are what they were: they are made anew of what they mirror. */
void mirrors_recover(struct streams *all, bool doubt);

/* ---- arrivals.c ---- */

bool arrivals_is_name(const char *name); /* of a stream that was loaded and is not settled */
struct map *arrivals_map_of(struct streams *all, const char *name);
void arrivals_whole_record(const struct stream *st, struct buf *out);
bool arrivals_load_whole(struct stream *st, const unsigned char *p, size_t n);
bool arrivals_load_settled(struct streams *all, const unsigned char *p, size_t n);
/* Gives it the name that it is to have, in place of one that is there. */
void arrivals_take_name(struct stream *st);

/* ---- tally.c ---- */

void tally_append(struct streams *all, struct tally *t, uint32_t id); /* to the log */
void streams_record_tallies(struct streams *all);                     /* what was counted, with what it counts */
void stream_count(struct stream *st, enum tally_count c, uint64_t n);
void sub_count(struct sub *s, enum tally_count c, uint64_t n);

/* ---- stream.c ---- */

struct stream *stream_new(struct streams *all, const char *name, uint32_t id);
void stream_free(struct stream *st);
void stream_record(const struct stream *st, struct buf *out);

/* ---- publishers.c ---- */

struct publisher *publisher_find(struct stream *st, uint64_t id); /* NULL: not heard of, or forgotten */
/* Makes it where it is not known; the one that was heard of least recently makes room. */
struct publisher *publisher_get(struct stream *st, uint64_t id, int64_t wall_ms);
void publisher_free(struct publisher *p);
void publisher_saw(struct publisher *p, uint64_t first, uint64_t last);
bool publisher_has_sent(const struct publisher *p, uint64_t number); /* NULL: it has not */
/* Those that were last heard of before. */
void publishers_forget(struct stream *st, int64_t seen_wall_ms);
size_t publishers_record(const struct stream *st, struct buf *out); /* how many */
bool publishers_load(struct stream *st, const unsigned char *p, size_t n);

/* ---- messages.c ---- */

static inline uint64_t extent_last(const struct extent *x)
{
    return x->first + x->n - 1;
}

/* The record with seq, or else the next one after it; NULL when there is none. */
struct extent *stream_extent_at(const struct stream *st, uint64_t seq);
/* The log need not keep it any more. */
void extent_give_back(struct stream *st, const struct extent *x);
/* Appends one record of messages. */
int messages_append(struct stream *st, uint64_t publisher, uint64_t number, const struct message *v, uint32_t n, int64_t wall_ms);
bool messages_load(struct stream *st, const struct seglog_pos *at, const unsigned char *p, size_t n);
/* Moves records out of segment `oldest`, up to *budget bytes. True when none is left there. */
bool stream_move(struct stream *st, uint64_t oldest, int64_t *budget);
/* The message, or NULL: ret_next is the first sequence after it that may be there. */
const void *stream_find(struct stream *st, uint64_t seq, size_t *ret_n, int64_t *ret_wall_ms, uint64_t *ret_next);
bool stream_has(const struct stream *st, uint64_t seq);        /* whether it can be read or not */
int64_t stream_wall_ms(const struct stream *st, uint64_t seq); /* about when it was published; 0: not there */

/* ---- traces.c ---- */

/* Of the n messages from `first` on, which were appended. */
void traces_append(struct stream *st, uint64_t first, const struct message *v, uint32_t n);
bool traces_load(struct stream *st, const struct seglog_pos *at, const unsigned char *p, size_t n);
/* Where the record about the messages from `first` on, an extent, is. False: there is none. */
bool traces_at(const struct stream *st, uint64_t first, struct seglog_pos *ret);
/* The messages from `first` on, an extent, were moved; or need not be kept any more. */
void traces_move(struct stream *st, uint64_t first);
void traces_give_back(struct stream *st, uint64_t first);
void traces_drop(struct stream *st); /* the stream is */

/* ---- retention.c ---- */

/* Gives back what no subscription needs any more. stream_trim_kept looks at what was kept for a few messages, too, which takes a
 * look at all of it. */
void stream_trim(struct stream *st);
void stream_trim_kept(struct stream *st);
void expired_load(struct stream *st, uint64_t first);

/* ---- subscription.c ---- */

struct sub *sub_new(struct stream *st, const char *name, uint32_t id, uint64_t floor);
void sub_free(struct sub *s);
void sub_record(const struct sub *s, struct buf *out);
/* Replaces what is known of the subscription. False when the record makes no sense. */
bool sub_load_record(struct stream *st, uint32_t id, const unsigned char *p, size_t n);
void sub_load_ranges(struct sub *s, int type, const struct range *v, size_t n);
/* The log is read: all that has a slot and is not done waits to be handed out, in order. */
void sub_recovered(struct sub *s);
/* After slots were set to done: advances the floor, and gives back what the stream need not keep for this subscription. */
void sub_finish(struct sub *s);
/* A lease ended with an ack after so long. */
void sub_add_time(struct sub *s, int64_t ms);

/* ---- dead_letters.c ---- */

/* The message becomes a dead letter. */
void sub_die(struct sub *s, uint64_t seq, struct slot *t, const char *reason, int64_t wall_ms);
/* The lease of seq ended without an ack. own: for a reason of its own, so that it may die of it. */
void sub_fail(struct sub *s, uint64_t seq, struct slot *t, bool own, const char *reason, int64_t wall_ms);
void sub_load_dead(struct sub *s, uint64_t seq, uint32_t deliveries, int64_t wall_ms, const char *reason, size_t n);
void sub_add_dead(struct sub *s, uint64_t seq, uint8_t deliveries, int64_t wall_ms, const char *reason, size_t n);
/* Where the first one with this sequence or a later one is in s->dead; s->n_dead: there is none. */
size_t sub_dead_at(const struct sub *s, uint64_t seq);

/* ---- slots.c ---- */

extern struct chunk chunk_all_done; /* stands for any chunk whose messages are all done or dead */

static inline struct chunk **sub_chunk_of(const struct sub *s, uint64_t seq)
{
    return &s->chunks[seq / CHUNK - s->floor / CHUNK];
}

/* NULL: done. For seq from floor to below cursor. */
static inline struct slot *sub_slot_of(const struct sub *s, uint64_t seq)
{
    struct chunk *c = *sub_chunk_of(s, seq);
    return c == &chunk_all_done ? NULL : &c->v[seq % CHUNK];
}

static inline bool slot_is_held(const struct slot *t, uint32_t consumer)
{
    return t->state == SLOT_LEASED && t->consumer == consumer;
}

static inline bool slot_is_over(uint8_t state)
{
    return state == SLOT_DONE || state == SLOT_DEAD;
}

/* The first from *seq to `last` (both ends included) that has a slot, and its place; NULL: none. What is passed over is done. To be
 * walked with `seq++`; the caller may set states, but not move the floor. */
struct slot *sub_next_slot(const struct sub *s, uint64_t *seq, uint64_t last);
/* The messages up to `next` have slots: they count as to be handed out again, until their state is set. */
void sub_advance(struct sub *s, uint64_t next);
void sub_advance_floor(struct sub *s); /* over all that is done or dead */
/* Counts, rings and chunks follow. t is not to be used afterwards where the message is over: its chunk may be gone. Asserts that
 * there is such a move. */
void sub_set_state(struct sub *s, uint64_t seq, struct slot *t, enum slot_state state);
/* One that was dead, perhaps below the floor, is to be handed out again. */
void sub_reopen(struct sub *s, uint64_t seq);
void sub_free_slots(struct sub *s);
void ring_push(struct ring *r, uint64_t seq);
uint64_t ring_pop(struct ring *r);

/* ---- lease_expiry.c ---- */

/* To be looked at when it is due. */
void sub_add_timed(struct sub *s, struct timed t);

/* ---- settle.c ---- */

/* Writes the ranges down, as far as they lie between floor and cursor: what peers say may be anything. */
void sub_log_ranges(const struct sub *s, int type, const struct range *v, size_t n);

#endif
