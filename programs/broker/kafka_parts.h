/* What the files about Kafka share. */
#ifndef SIMBDP_BROKER_KAFKA_PARTS_H
#define SIMBDP_BROKER_KAFKA_PARTS_H

#include "kafka.h"

#include "base/buf.h"
#include "wire/kafka_frames.h"

struct kafka_link;

/* The life of a stream here:
 *
 *   closed --OPEN--> opening --OPENED: what is it?--> naming --COMMITTED: it has our name--> follows
 *     ^___________ an error, BROKEN, the link's end (again after a while) ____________________/
 *
 * A partition that is another broker's (kafka_shared.c) is opened, and then known: it is published to, and not followed. */
enum kafka_state { KAFKA_CLOSED, KAFKA_OPENING, KAFKA_NAMING, KAFKA_FOLLOWS, KAFKA_KNOWN };

/* A request that Kafka has not confirmed yet. */
struct flight_out {
    struct flight_out *next, *also; /* also: the same request, sent again; its answer is this one's */
    struct session *session;        /* NULL: gone */
    struct wire_header h;
    uint64_t id, publisher, number;
    uint64_t floor; /* what was confirmed when it was sent: it comes to lie behind that, or the topic is another one */
    uint32_t n, known;
    int64_t bytes, since_ms;
    struct buf spans; /* that are told when it is confirmed */
};

/* Records that came one after the other and can be stored as one. */
struct run {
    uint64_t seq, publisher, number;
    int64_t wall_ms;
    size_t n;
    struct buf bytes, lengths, traces; /* u32; KAFKA_TRACE each, zeros: none */
};

/* What Kafka may forbid while a topic is followed. */
enum kafka_right { KAFKA_MAY_PUBLISH, KAFKA_MAY_READ, KAFKA_MAY_COMMIT, KAFKA_MAY_TRIM, KAFKA_N_RIGHTS };

struct kafka_stream {
    struct broker_stream *st;
    struct kafka_stream *next;
    uint32_t number;
    char *topic;
    enum kafka_state state;
    bool shared, here; /* several brokers share the stream; this partition is ours */
    bool known;        /* the topic is what it should be */
    bool ask_again;    /* what is on its way is too old */
    char *kept;        /* the text that was kept last; NULL: none */
    bool keeping;      /* there is no answer yet */
    int64_t kept_ms;
    bool looking;               /* at what others keep: there is no answer yet */
    int64_t elsewhere;          /* bytes of the copy of who has it, as it said last */
    bool leaving;               /* nothing is taken any more; once all is here that is there, the stream is the store's alone */
    char why[300];              /* "": it is well */
    int64_t again_ms, named_ms; /* when it is opened next; when its name was written last */
    int64_t followed_ms;        /* since when */
    int64_t check_ms, asked_ms; /* when it is looked at next; when it was last */
    bool asking;                /* there is no answer yet */
    uint64_t asked_at;          /* how far we were then */
    struct flight_out *first, **last;
    struct map by_number; /* of those that have a publisher, the one that was sent */
    size_t n_also;
    int64_t bytes;
    uint64_t confirmed; /* sequence after the highest that was */
    char **asked;       /* subscriptions whose offsets were asked for */
    size_t n_asked;
    uint64_t leave_at;        /* leaving: the topic's end, once nothing is under way; 0: not known */
    uint64_t trim, next_trim; /* offsets: what may be given up, and from trim_ms on */
    int64_t trim_ms;
    struct run run;
    char *may_not[KAFKA_N_RIGHTS]; /* Kafka's words; NULL: we may, as far as is known */
};

struct kafka {
    struct keeper *keeper; /* NULL: the configuration had no `kafka` when the broker started */
    struct kafka_link *link;
    struct kafka_stream *streams, *at; /* at: whose run is open */
    struct map numbers;                /* of topics; they stay, as librdkafka knows a topic by its name once and for all */
    uint32_t last_number;
    uint64_t last_request;
    int64_t bytes;
    struct buf joined; /* topics, as the group was told last */
    bool assigned;     /* the group has said which partitions are ours */
    int64_t heard_ms;  /* of simbdp-kafka */
    char fenced[500];  /* "": we are not */
    char *member;      /* that is configured */
    char *prefix;      /* of this home's topics; NULL: none is in Kafka, or it is not written down yet */
    char *brokers;     /* that are configured */
    char down[300];    /* why no node answers, as simbdp-kafka said last; "" since anything was confirmed */
};

/* ---- kafka_link.c: frames to simbdp-kafka, and from it ---- */
struct kafka_link *kafka_link_new(struct broker *b);
void kafka_link_free(struct kafka_link *l);
void kafka_link_restart(struct kafka_link *l); /* settings and nodes may be others now */
bool kafka_link_is_up(const struct kafka_link *l);
const char *kafka_link_why(const struct kafka_link *l);     /* it is not */
void kafka_frame_send(struct kafka_link *l, struct buf *f); /* ends it; where it is up */
/* They are called by it. */
void kafka_on_up(struct broker *b);
void kafka_on_down(struct broker *b);
/* False: this makes no sense. */
bool kafka_on_frame(struct broker *b, uint32_t verb, uint32_t stream, const unsigned char *p, size_t n);
void kafka_on_read_end(struct broker *b);

/* ---- kafka_open.c: what a topic is to us ---- */
void kafka_open(struct kafka_stream *k);
/* Looks at it from time to time, while it is followed: its settings may be changed. */
void kafka_check(struct kafka_stream *k);
bool kafka_on_opened(struct kafka_stream *k, const unsigned char *p, size_t n);
bool kafka_on_committed(struct kafka_stream *k, const unsigned char *p, size_t n);
void kafka_close(struct kafka_stream *k, int64_t again_ms, const char *why);
/* Where its subscriptions are, as they changed. */
void kafka_commit(struct kafka_stream *k);

void kafka_follow(struct kafka_stream *k);
/* Where a subscription was: all before `offset` is done, and what the text says. first: the oldest offset that is there. */
void kafka_take_sub(struct broker_sub *bs, uint64_t base, uint64_t first, uint64_t offset, const char *done);

/* ---- kafka_shared.c: streams that several brokers share ---- */
struct kafka_kept {
    unsigned char epoch[EPOCH_BYTES];
    uint64_t base, next, bytes;
    char member[65];
    const char *apps; /* of the text that was read */
};
void kafka_members_group(const struct broker *b, struct buf *out);
bool kafka_on_assignment(struct broker *b, const unsigned char *p, size_t n);
bool kafka_on_looked(struct kafka_stream *k, const unsigned char *p, size_t n);
bool kafka_on_kept(struct kafka_stream *k, const unsigned char *p, size_t n);
void kafka_shared_down(struct broker *b); /* simbdp-kafka ended */
void kafka_shared_tick(struct broker *b);
/* Where the subscriptions are, if that changed. */
void kafka_keep(struct kafka_stream *k);
/* It is ours from now on: the same as was kept (NULL: nothing), with our name. */
void kafka_keep_on(struct kafka_stream *k, const struct kafka_kept *kept, uint64_t offset);
/* False: it is none. */
bool kafka_read_kept(const char *text, struct kafka_kept *ret);
void kafka_take_kept(struct kafka_stream *k, const struct kafka_kept *kept, uint64_t first);
/* The partition became ours: our copy is used, or begins anew. is_kept: somebody had it before. -ENOSPC, or -1: k->why says why not
 * now. */
int kafka_prepare_copy(struct kafka_stream *k, const struct kafka_kept *kept, bool is_kept);

/* ---- kafka_publish.c ---- */
bool kafka_on_produced(struct kafka_stream *k, const unsigned char *p, size_t n);
void kafka_refuse_all(struct kafka_stream *k, const char *why); /* that is under way */

/* ---- kafka_mirror.c ---- */
bool kafka_on_record(struct kafka_stream *k, const unsigned char *p, size_t n);
/* What came is stored. */
void kafka_flush(struct broker *b);
void kafka_drop_run(struct kafka_stream *k);

/* ---- kafka_prefix.c ---- */
/* The configuration changed. True: topics of another prefix are left, as it says. */
bool kafka_prefix_accept(struct broker *b);
/* Writes down what is taken for granted, or forgets it where no stream is in Kafka. */
void kafka_prefix_keep(struct broker *b);
bool kafka_prefix_is(const char *topic, const char *prefix);
bool kafka_prefix_holds(const struct kafka_stream *k, char *why, size_t size);

/* ---- kafka_rights.c ---- */
/* What came of what needs the right. why "": it was done; what is no matter of rights is not kept. */
void kafka_right(struct kafka_stream *k, enum kafka_right right, const char *why);
const char *kafka_lacks(const struct kafka_stream *k, char *text, size_t size); /* NULL: nothing */
void kafka_rights_fini(struct kafka_stream *k);
bool kafka_on_trimmed(struct kafka_stream *k, const unsigned char *p, size_t n);

/* Moves *p. NULL: it is not there; caller frees. */
char *kafka_take_str(const unsigned char **p, size_t *n);
bool kafka_take_u32(const unsigned char **p, size_t *n, uint32_t *ret);
bool kafka_take_u64(const unsigned char **p, size_t *n, uint64_t *ret);

static inline uint64_t kafka_seq(const struct kafka_stream *k, uint64_t offset)
{
    return offset + 1 + stream_base(k->st->stream);
}

/* The offset that comes next. */
static inline uint64_t kafka_position(const struct kafka_stream *k)
{
    struct stream_figures f;
    stream_figures(k->st->stream, &f);
    return f.next_seq - 1 - stream_base(k->st->stream);
}

#endif
