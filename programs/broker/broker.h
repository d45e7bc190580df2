/* The broker's state, which its files share. One thread and its loop.
 *
 * The lower storey (store/) keeps streams, their messages and who holds which of them; it knows no socket and no clock. This storey
 * talks to peers, and has a record of its own for each thing of the store's that it needs to know more about, which is the store's
 * tag for it: a broker_stream for each stream, a broker_sub for each sub(scription), a broker_consumer for each consumer.
 *
 * The way of a message through the files, down and up again:
 *   session.c    the peer's connection                      deliver.c    leases, and out to the consumer
 *   requests.c   by verb                                    turn.c       (the store is committed)
 *   publish.c    may it? share.c, quota.c, cut_off.c       answers.c    CONFIRM to the publisher
 *   store/       streams.h: stream_publish()                store/       streams.h: consumer_lease()
 * and back: session.c, requests.c, consume.c (settling), store/ (sub_ack()).
 *
 * A turn (turn.c): requests are read and acted upon, in memory and into the log; what was published is made durable with one sync
 * for all; answers leave; then consumers get what their windows allow. */
#ifndef SIMBDP_BROKER_BROKER_H
#define SIMBDP_BROKER_BROKER_H

#include "rate.h"
#include "store/streams.h"

#include "base/clk.h"
#include "base/map.h"
#include "conf/conf.h"
#include "db/tenants.h"
#include "front/keeper.h"
#include "front/znet.h"
#include "host/home.h"
#include "host/retention_clock.h"
#include "loop/ctl.h"
#include "wire/wire.h"

#include <event2/event.h>

struct broker;

enum span_kind { SPAN_PUBLISH, SPAN_PROCESS, N_SPAN_KINDS };

struct broker_tenant {
    char *id;
    int64_t uid;
    bool suspended;
    bool held, moved;                           /* on its way from or to another home; another one has it */
    bool still;                                 /* of one that is held: moving.h */
    int64_t turn_bytes;                         /* published in this turn */
    int64_t kafka_bytes;                        /* that Kafka has not confirmed yet */
    struct parked *first_parked, **last_parked; /* requests that wait for the next turn: share.c */
    int64_t parked_bytes;
    bool parking; /* in broker.parking */
    struct broker_tenant *next;
    int64_t told_deaf_ms;                       /* the last time that one of its peers did not read, as the log has it */
    struct buf spans;                           /* lines that the keeper is to be given: spans.c */
    int n_spans_waiting, n_spans[N_SPAN_KINDS]; /* in `spans`; in this second */
    size_t n_flights;                           /* of all its consumers */
};

enum cut_off { NOT_CUT_OFF, CUT_OFF_BREACHES, CUT_OFF_REJECTS };

/* A stream. */
struct broker_stream {
    struct broker *b;
    struct stream *stream;
    struct broker_tenant *tenant;
    char *name; /* within the tenant */
    /* Of several partitions, each is one of the store's streams: parts.h. */
    struct broker_stream *whole;  /* itself, but for the partitions above 0 */
    uint32_t part;                /* which of the whole's it is */
    struct broker_stream **parts; /* of a whole: itself first; NULL: gone */
    size_t n_parts, next_part;    /* next_part: which is served first the next time */
    bool configured;
    bool idle;               /* another broker may serve this partition: nothing of it is given to anybody */
    enum cut_off cut_off;    /* cut_off.c sets it */
    struct conf_stream conf; /* a copy; its strings belong to the configuration */
    struct bucket messages, bytes;
    struct breaches breaches;
    int64_t told_breach_ms; /* the last one that was written to the journal */
    double in_per_s;
    uint64_t rate_seen;
    struct kafka_stream *kafka; /* NULL: its messages are in the store alone */
};

/* A subscription. */
struct broker_sub {
    struct sub *sub;
    struct broker_stream *stream;
    struct broker_sub *whole; /* the app's of partition 0 */
    bool configured;
    bool listed; /* in broker.to_serve */
    bool told;   /* watchers know that it needs an instance */
    size_t turn; /* where the next round over its consumers begins */
    struct event *timer;
    int64_t due_ms; /* the timer's; -1: it is not set */
    double acked_per_s;
    uint64_t rate_seen;
    struct bucket rows; /* of max_rows_per_s */
    struct {
        int64_t begun_ms;
        uint64_t acked, rejected; /* when it began */
    } minute;                     /* of max_reject_pct */
    int64_t dead_s;               /* the second in which the journal got so many dead letters */
    int n_dead_told;
    struct broker_sub *next;
    /* Of a stream that is in Kafka: ranges that are done and have not come yet; what was committed last. */
    struct buf kafka_done;
    char *kafka_committed;
    bool kafka_committing; /* there is no answer yet */
    uint64_t kafka_offset;
    int64_t kafka_committed_ms;
};

/* A message that a consumer has, whose trace is recorded: spans.c. */
struct flight {
    uint64_t seq;
    int64_t from_ms;
    unsigned char trace[MESSAGE_TRACE_BYTES];
};

/* A consumer: what a peer calls by a number of its own. */
struct broker_consumer {
    uint16_t tag;
    struct consumer *consumer, **parts; /* of the partitions from 1 on; NULL: none */
    size_t n_parts;
    struct session *session;
    unsigned char epoch[EPOCH_BYTES]; /* it was told, of what is delivered next */
    bool wants_traces;
    struct flight *flights; /* in the order of delivery */
    size_t n_flights;
};

/* Who is at the other end: auth.h. */
enum peer_kind { PEER_NOBODY, PEER_TENANT, PEER_GATEWAY /* publishes for tenants, and no more */, PEER_OPERATOR };

/* A peer: a connection. */
struct session {
    struct broker *b;
    char *key; /* of broker.sessions: its number */
    struct zmtp_conn *conn;
    enum peer_kind peer;
    struct broker_tenant *tenant; /* of PEER_TENANT; else NULL */
    char run[ID_SIZE];            /* whose key it showed; "": it is on this machine, or has a key that its tenant lists */
    bool deaf;                    /* its answers pile up unread */
    bool held;                    /* it gets no messages: streammgr is about to stop its instance */
    uint64_t number;              /* names it on the control socket */
    uint64_t n_unheard;           /* requests since it is deaf */
    struct broker_consumer **consumers;
    size_t n_consumers;
};

struct broker {
    struct home home;
    struct keeper *keeper;
    struct conf *conf; /* what the keeper tells of it */
    struct event_base *base;
    struct daemon *daemon;
    struct event *turn_ev, *tick_ev, *sync_ev;
    int64_t gateway_uid; /* -1: it has none of its own, and is the operator */
    struct znet net;
    struct streams *streams;
    struct map tenants;      /* struct broker_tenant, by id; never removed */
    struct map sessions;     /* by number */
    struct znet_looks looks; /* into the ledger, for connections of uids that were not known */
    struct buf answers;      /* of this turn: answers.c */
    struct broker_sub *to_serve;
    struct broker_tenant *parking; /* tenants with parked requests */
    struct ctl *ctl;
    struct ctl_conn *watchers[8];
    size_t n_watchers;
    struct importing *importing; /* moving.h */
    struct ctl_conn *holder;     /* whose word it is that sessions are held; NULL: none is */
    uint64_t last_session;
    int64_t started_wall_ms, now_ms, wall_ms; /* of this turn */
    struct retention_clock age;               /* what retention goes by */
    int64_t journal_ms;                       /* the last interval ended */
    int64_t told_deaf_ms;                     /* of the operator's peers */
    uint64_t n_requests, n_refused;
    struct buf spans_begun;    /* of this turn: spans.c */
    int n_spans[N_SPAN_KINDS]; /* in this second */
    uint64_t n_spans_told, n_spans_dropped;
    int n_ticks;
    struct kafka *kafka; /* never NULL */
    int store_fd, marks_fd;
};

/* What is done from here on is done now. */
static inline void broker_look_at_clocks(struct broker *b)
{
    b->now_ms = clk_now_ms();
    b->wall_ms = clk_wall_ms();
}

/* There is something to do for a turn. */
static inline void broker_turn_soon(struct broker *b)
{
    event_active(b->turn_ev, EV_TIMEOUT, 0);
}

#endif
