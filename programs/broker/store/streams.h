/* Streams, their subscriptions, and which consumer holds which message, kept in a log (seglog.h).
 *
 * A stream numbers its messages from 1 (sequence). Each subscription sees all of them, from the oldest that was kept when it was
 * made. Of a subscription, a message is
 *
 *   fresh -> leased -> done                    acknowledged, dropped or too old
 *              |  ^
 *              v  |
 *           again, suspect, delayed            lease over, consumer gone, nack
 *              |
 *              v
 *            dead  -> again (replay) or done (drop)
 *
 * When a consumer dies, any message that it held may be the cause. So all of them become suspect: they are handed out to
 * consumers that hold nothing else, in groups of at most SUSPECT_GROUP the first time and one by one after that, before anything
 * fresh. A message becomes a dead letter after max_deliveries, and only where the last failure was certainly its own: a nack, or
 * its consumer held nothing else.
 *
 * Leases are not durable: after a restart what was leased is handed out again. Deliveries are counted durably, but without a sync.
 *
 * Times: now_ms is monotonic (lib/base/clk.h), wall_ms the calendar. Nothing here blocks but for the store's own reads and writes.
 */
#ifndef SIMBDP_STORE_STREAMS_H
#define SIMBDP_STORE_STREAMS_H

#include "tally.h"

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EPOCH_BYTES = 16,
    MAX_REASON = 200, /* longest reason of a dead letter */
    SUSPECT_GROUP = 32,
    MESSAGE_TRACE_BYTES = 26,
};

struct streams;
struct stream;
struct sub;
struct consumer;

struct message {
    const void *p;
    size_t n;
    const void *trace; /* MESSAGE_TRACE_BYTES, to which trace it belongs; NULL: to none. The same address: the same trace */
};

/* Sequence numbers from first to last, both included. */
struct range {
    uint64_t first, last;
};

struct stream_figures {
    uint64_t next_seq, first_seq; /* first_seq: the oldest kept, next_seq where there is none */
    int64_t bytes;                /* on disk, with what is kept for dead letters */
};

struct sub_figures {
    uint64_t ready, leased, delayed, dead;
    int64_t oldest_wall_ms; /* when the oldest that is neither done nor dead was published; 0: there is none */
    uint64_t acked;         /* ever */
    /* Since the program started. lost: could not be read from the disk; those that were missing at the start are in it. */
    uint64_t redelivered, lost, expired, rejected; /* rejected: dead at once, by a nack that said so */
    size_t n_consumers;
};

/* How long messages took from delivery to ack, since the last sub_take_times. */
struct sub_times {
    uint64_t n;
    double average_ms;
    int64_t p99_ms, max_ms; /* p99: within a fourth */
};

/* The same of all acks since the program started, for whoever takes differences: how many took up to sub_lasted_ms[i], but longer
 * than the one before; the last count is of those above all. */
enum { SUB_LASTED = 12 };
extern const int32_t sub_lasted_ms[SUB_LASTED];
struct sub_lasted {
    uint64_t n[SUB_LASTED + 1];
    int64_t sum_ms;
};

struct dead_letter {
    uint64_t seq;
    uint8_t deliveries;
    int64_t wall_ms; /* of its death */
    const char *reason;
};

/* Confirmed messages of a stream that streams_open did not find, and that no earlier start had missed. */
struct stream_loss {
    uint64_t n, first, last; /* n: how many that some subscription should still have got; they lie between first and last */
};

/* Opens or makes the streams kept in directory dirfd. marks_fd: the file of marks (marks.h), empty where it is new. TAKE marks_fd.
 * Errors are seglog_open's. Blocks. */
int streams_open(int dirfd, int marks_fd, struct streams **ret, struct err *e);
/* fn is called for each message that dies. */
void streams_on_death(struct streams *all, void (*fn)(struct sub *s, const struct dead_letter *d));
void streams_close(struct streams *all);
void streams_abandon(struct streams *all); /* what was not committed is lost, as by a kill */

/* Ends a turn: what was changed is written and, where messages were published or `sync`, durable when it returns. */
void streams_commit(struct streams *all, bool sync);
/* Sends the marks on their way to the disk; to be called about once a second. Waits for the disk only where there are new streams.
 */
void streams_push_marks(struct streams *all);
/* True when acks and the like were written but are not durable yet. */
bool streams_unsynced(const struct streams *all);
/* Frees space, with a bounded amount of work in each call. True when there is more to do. */
bool streams_tidy(struct streams *all);
bool streams_full(struct streams *all); /* the disk has no room for messages */
/* What was refused since the last call is written with the next commit: to be called about once a second, so that a flood of
 * refusals costs no writes. True when there is something to write. */
bool streams_record_refusals(struct streams *all);

struct stream *streams_next(struct streams *all, size_t *i); /* iteration as map_next */
struct stream *streams_find(struct streams *all, const char *name);
/* Makes it if it is not there. -ENOSPC. */
int streams_add(struct streams *all, const char *name, struct stream **ret);
/* Forgets the stream, its messages, subscriptions and dead letters. */
void streams_drop(struct streams *all, struct stream *st);

const char *stream_name(const struct stream *st);
void stream_figures(const struct stream *st, struct stream_figures *ret);
struct stream_loss stream_loss(const struct stream *st);
/* Something of the caller's own; NULL at first. */
void stream_set_tag(struct stream *st, void *tag);
void *stream_tag(const struct stream *st);

/* Appends messages, but for those of the publisher's numbers number, number + 1, … that it sent before (publisher 0: none is).
 * Confirm after streams_commit only. ret_first: sequence of the first one stored, 0 when none was; ret_known: how many were known.
 * -ENOSPC, -EMSGSIZE; some may be stored then, and are known when they are sent again. */
int stream_publish(struct stream *st, uint64_t publisher, uint64_t number, const struct message *v, size_t n, int64_t wall_ms,
                   uint64_t *ret_first, size_t *ret_known);
/* One more request was refused. */
void stream_count_refusal(struct stream *st);
/* What it counts; and the caller's word that the journal has all of it. */
const struct tally *stream_tally(const struct stream *st);
void stream_tally_told(struct stream *st);
/* Drops messages older than wall_ms, dead letters that died before dead_wall_ms, publishers not seen since seen_wall_ms. */
void stream_apply_retention(struct stream *st, int64_t wall_ms, int64_t dead_wall_ms, int64_t seen_wall_ms);
/* ---- mirrors: streams whose messages are kept elsewhere, by position, and come from there (mirror.c) ---- */

bool stream_is_mirror(const struct stream *st);
/* Position p of what is mirrored has sequence p + 1 + stream_base. */
uint64_t stream_base(const struct stream *st);
const unsigned char *stream_epoch(const struct stream *st); /* of what comes next */
/* From here on it is one (or none any more); what it holds stays. It is written down. anew: it begins an epoch. -ENOSPC. */
int stream_set_mirror(struct stream *st, bool mirror, uint64_t base, bool anew);
/* Nothing was ever in it: it may become the mirror of something that has an epoch. Its subscriptions begin at next_seq. -ENOSPC. */
bool stream_is_pristine(const struct stream *st);
int stream_adopt(struct stream *st, const unsigned char epoch[EPOCH_BYTES], uint64_t base, uint64_t next_seq);
/* Messages with the sequences from seq on, which is next_seq or later, and the publisher's numbers from number on. What it sent
 * before, and what is passed over, is nobody's. -ENOSPC, -EMSGSIZE. */
int stream_mirror(struct stream *st, uint64_t seq, uint64_t publisher, uint64_t number, const struct message *v, size_t n,
                  int64_t wall_ms);
/* Back to pristine: it holds nothing, its subscriptions begin anew, as do epoch and sequences. Consumers stay, and hold nothing; so
 * do counts. -ENOSPC: nothing is changed. */
int stream_reset(struct stream *st);
/* Sequences up to before `next` will not come any more. How many they are. */
uint64_t stream_lose(struct stream *st, uint64_t next);
/* How many of a publisher's numbers from number on, n at most, are known. */
size_t stream_n_known(struct stream *st, uint64_t publisher, uint64_t number, size_t n);
/* Nothing in it is left to be done or to be looked at by somebody. */
bool stream_is_done(const struct stream *st);
/* What comes with lower sequences was counted elsewhere. Until the program ends. */
void stream_count_from(struct stream *st, uint64_t seq);
bool stream_knows_publisher(struct stream *st, uint64_t publisher);
/* When what came last was published. */
int64_t stream_newest_wall_ms(const struct stream *st);
/* Where the subscription is: all before are done. Dead letters are not, for whoever has to begin there. */
uint64_t sub_begins(const struct sub *s);
/* Adds to `out` which are done from there on, as "first-last," of positions, up to max bytes. */
void sub_add_done(const struct sub *s, struct buf *out, size_t max);
/* Messages that were done before, of those that nobody was given yet. */
void sub_skip(struct sub *s, struct range done);

/* Reads one message, also a dead one. NULL when it is not there (any more). Valid until the next call on the stream. */
const void *stream_read(struct stream *st, uint64_t seq, size_t *ret_n, int64_t *ret_wall_ms);

/* Whether any message of the stream has a trace; and that of one, NULL: it has none. Valid until the next call on the stream. */
bool stream_has_traces(const struct stream *st);
const unsigned char *stream_trace(struct stream *st, uint64_t seq);

struct sub *stream_next_sub(const struct stream *st, size_t *i);
struct sub *stream_sub(const struct stream *st, const char *name);
int stream_add_sub(struct stream *st, const char *name, struct sub **ret);
void stream_drop_sub(struct stream *st, struct sub *s);

const char *sub_name(const struct sub *s);
struct stream *sub_stream(const struct sub *s);
void sub_figures(const struct sub *s, struct sub_figures *ret);
const struct tally *sub_tally(const struct sub *s); /* errors: leases that ended without an ack */
void sub_tally_told(struct sub *s);
void sub_take_times(struct sub *s, struct sub_times *ret);
const struct sub_lasted *sub_lasted(const struct sub *s);
void sub_configure(struct sub *s, int64_t lease_ms, int max_deliveries);
uint64_t sub_floor(const struct sub *s); /* all before are done or dead */
/* The epoch of a message for this subscription: the first half of its rows' _ids (docs/wire.md). The range: which messages have the
 * same one. */
struct range sub_epoch(const struct sub *s, uint64_t seq, unsigned char ret[EPOCH_BYTES]);
void sub_set_tag(struct sub *s, void *tag);
void *sub_tag(const struct sub *s);

/* A consumer may hold at most max_n messages and, but for a single one, max_bytes. */
struct consumer *sub_attach(struct sub *s, void *tag);
void consumer_set_window(struct consumer *c, uint64_t max_n, uint64_t max_bytes);
/* A new one: what it may hold is what `first` may, together with it and the others of it. `first` is detached last. */
void consumer_share(struct consumer *c, const struct consumer *first);
void *consumer_tag(const struct consumer *c);
struct sub *consumer_sub(const struct consumer *c);
/* How many leases it holds, and how many ran out since it last settled or extended any: it hangs. With those that share with it. */
uint64_t consumer_n_leased(const struct consumer *c);
uint64_t consumer_n_ran_out(const struct consumer *c);
/* It settled or extended something, so it does not hang. */
void consumer_heard(struct consumer *c);
/* It and those that share with it are about to be detached: whether it held one message alone counts from here. */
void consumer_ends(struct consumer *c);
/* The consumer is gone and is freed; what it held is handed out to others. lost: it may have died of one of the messages. */
void consumer_detach(struct consumer *c, bool lost, int64_t wall_ms);
struct consumer *sub_next_consumer(const struct sub *s, size_t *i);

/* Leases what the window allows, at most max_n messages and about max_bytes, all of one epoch, calling fn for each; how many. The
 * payload is valid during the call. */
size_t consumer_lease(struct consumer *c, size_t max_n, size_t max_bytes, int64_t now_ms,
                      void (*fn)(void *arg, uint64_t seq, int deliveries, int64_t wall_ms, const void *p, size_t n), void *arg);
/* True when consumer_lease would give something. */
bool consumer_may_lease(const struct consumer *c);

/* These messages are done, whoever of the subscription's consumers says so, and also after their lease has ended: the work is done.
 * How many were not done before.
 * rows: how many each message of a range made, NULL: not known; the ranges are in order and apart then. */
uint64_t sub_ack(struct sub *s, const struct range *v, const uint32_t *rows, size_t n, int64_t now_ms);
/* Some of it are handed out only to consumers that hold nothing. */
bool sub_has_suspects(const struct sub *s);
/* Hands out again after delay_ms what this consumer holds, or never (-1: dead letters at once); reason is kept with those that
 * die of it. How many. */
uint64_t consumer_nack(struct consumer *c, const struct range *v, size_t n, int64_t delay_ms, const char *reason, int64_t now_ms,
                       int64_t wall_ms);
/* The leases of what this consumer holds begin anew. How many. */
uint64_t consumer_extend(struct consumer *c, const struct range *v, size_t n, int64_t now_ms);
/* Ends leases and delays that are over. When to come again (now_ms), -1: not because of this. */
int64_t sub_end_leases(struct sub *s, int64_t now_ms, int64_t wall_ms);

/* Dead letters in the order of their sequence, from `seq` on; false when there is none. */
bool sub_next_dead(const struct sub *s, uint64_t seq, struct dead_letter *ret);
/* 0 or -ENOENT. */
int sub_replay(struct sub *s, uint64_t seq);
int sub_drop_dead(struct sub *s, uint64_t seq);

#endif
