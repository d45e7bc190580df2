/* What the parts of the broker share. One thread and its loop.
 *
 * A turn: requests are read and acted upon, in memory and into the log (session.c); what was published is made durable with one
 * sync for all; answers leave; then consumers get what their windows allow (deliver.c). */
#ifndef SIMBDP_BROKER_BROKER_H
#define SIMBDP_BROKER_BROKER_H

#include "queue.h"
#include "rate.h"

#include "base/map.h"
#include "conf/conf.h"
#include "db/tenants.h"
#include "front/keeper.h"
#include "front/znet.h"
#include "host/age.h"
#include "host/home.h"
#include "loop/ctl.h"
#include "wire/wire.h"

#include <event2/event.h>

struct broker;

struct btenant {
    char *id;
    int64_t uid;
    bool suspended;
    int64_t turn_bytes;                         /* published in this turn */
    struct parked *first_parked, **last_parked; /* requests over its share of a turn wait for the next */
    int64_t parked_bytes;
    bool parking; /* in broker.parking */
    struct btenant *next;
    int64_t told_deaf_ms; /* the last time that one of its peers did not read, as the log has it */
};

/* A stream as the broker sees it: the tag of its queue. */
struct bstream {
    struct broker *b;
    struct stream *queue;
    struct btenant *tenant;
    char *name; /* within the tenant */
    bool configured;
    bool cut_off;            /* after too many breaches, until `tenant resume` */
    bool too_many_rejects;   /* and that is why */
    struct conf_stream conf; /* a copy; its strings belong to the configuration */
    struct bucket messages, bytes;
    struct breaches breaches;
    int64_t told_breach_ms; /* the last one that was written to the log */
    double in_per_s;
    uint64_t rate_seen;
};

/* A subscription: the tag of its queue. */
struct bsub {
    struct sub *queue;
    struct bstream *stream;
    bool configured;
    bool listed; /* in broker.to_serve */
    bool told;   /* watchers know that it needs an instance */
    size_t turn; /* where the next round over its consumers begins */
    struct event *timer;
    int64_t due_ms; /* the timer's; -1: not armed */
    double acked_per_s;
    uint64_t rate_seen;
    struct bucket rows; /* of max_rows_per_s */
    struct {
        int64_t begun_ms;
        uint64_t acked, rejected; /* when it began */
    } minute;                     /* of max_reject_pct */
    int64_t dead_s;               /* the second in which the log had so many */
    int n_dead_told;
    struct bsub *next;
};

/* A peer: a connection. */
struct session {
    struct broker *b;
    char *key; /* of broker.sessions: its number */
    struct zmtp_conn *conn;
    struct btenant *tenant; /* NULL: operator, or not known */
    bool is_operator;
    bool deaf;          /* its answers pile up unread */
    bool held;          /* it gets no messages: streammgr is about to stop its instance */
    uint64_t number;    /* names it on the control socket */
    uint64_t n_unheard; /* requests since */
    struct subscription {
        uint16_t tag;
        struct consumer *consumer;
        struct session *session;
        unsigned char epoch[QUEUE_EPOCH]; /* it was told, of what is delivered next */
    } * *subscriptions;
    size_t n_subscriptions;
};

/* CONFIRM or DONE, which leave when what they are about is written. */
struct answer {
    struct session *session; /* NULL: it is gone */
    uint8_t verb;
    uint16_t consumer;
    uint32_t request;
    uint64_t first; /* of DONE: how many */
    uint32_t stored, known;
};

struct broker {
    struct home home;
    struct keeper *keeper;
    struct conf *conf; /* what the keeper tells of it */
    struct event_base *base;
    struct daemon *daemon;
    struct event *turn_ev, *tick_ev, *sync_ev;
    struct znet net;
    struct queues *queues;
    struct map tenants;      /* struct btenant, by id; never removed */
    struct map sessions;     /* by number */
    struct znet_looks looks; /* into the ledger, for connections of uids that were not known */
    struct buf answers;      /* struct answer: of this turn */
    struct bsub *to_serve;
    struct btenant *parking; /* tenants with parked requests */
    struct ctl *ctl;
    struct ctl_conn *watchers[8];
    size_t n_watchers;
    struct ctl_conn *holder; /* whose word it is that sessions are held; NULL: none is */
    uint64_t last_session;
    int64_t started_wall_ms, now_ms, wall_ms; /* of this turn */
    struct age age;                           /* what retention goes by */
    int64_t journal_ms;                       /* the last interval ended */
    int64_t told_deaf_ms;                     /* of the operator's peers */
    uint64_t n_requests, n_refused;
    int store_fd, marks_fd;
};

/* main.c */
int broker_reload(struct broker *b, struct err *e);
void broker_turn_soon(struct broker *b);
void broker_look_at_clocks(struct broker *b);                                          /* what is done from now on is done now */
struct bstream *broker_stream(struct broker *b, const char *tenant, const char *name); /* NULL: not there, or not configured */
struct bsub *broker_sub(const struct bstream *st, const char *app);
void broker_serve_all(struct broker *b); /* who is suspended may have changed */
void broker_drop_stream(struct broker *b, struct bstream *st);
int broker_save_cut_off(struct broker *b);

/* auth.c */
/* Asks for the ledger's tenants anew. */
void auth_read_tenants(struct broker *b);
struct btenant *auth_tenant(struct broker *b, const char *id); /* makes it */
/* How many connections a uid may have: 0 for strangers; and who has a CURVE key. */
int auth_may_connect(void *broker, int64_t uid);
const char *auth_user_of_key(void *broker, const unsigned char key[CURVE_KEY], int *ret_max);
/* Sets the session's tenant: by its uid on ipc, by the key that it has shown on tcp. */
void auth_identify(struct broker *b, struct session *s);

/* session.c: a connection, its messages, its end. */
void session_on_open(void *broker, struct zmtp_conn *c);
void session_on_message(void *broker, struct zmtp_conn *c, struct zmtp_message *m);
void session_on_drain(void *broker, struct zmtp_conn *c);
void session_on_close(void *broker, struct zmtp_conn *c);
/* A new turn for those that had their share of the last one. True when some still wait. */
bool session_unpark(struct broker *b);
void session_send_answers(struct broker *b);
/* Frames to a peer: 0, or -EAGAIN when it does not read. */
int session_send(struct session *s, const struct wire_frame *v, size_t n);
void session_end(struct session *s, bool lost);
void session_end_all(struct broker *b);
void session_drop_sub(struct broker *b, struct bsub *sub); /* its consumers' subscriptions end */

/* limits.c */
/* WIRE_N_CODES, or what the request is refused with: how long to wait (0: it will never pass), and why. Takes nothing. */
enum wire_code limits_broken(struct bstream *st, const struct wire_request *rq, int64_t *ret_wait_ms, char *text, size_t size);
/* The app made so many rows of messages. */
void limits_take_rows(struct bsub *s, uint64_t n);
/* How long it gets no messages for that, ms. */
int64_t limits_rows_wait_ms(struct bsub *s);
/* Once a second: cuts the stream off where an app refuses too many of its messages. */
void limits_look_at_rejects(struct bsub *s);
/* What one request may have. */
int64_t limits_messages(const struct conf_stream *c);
int64_t limits_bytes(const struct conf_stream *c);

/* deliver.c */
void deliver_want(struct bsub *s); /* something may have become deliverable */
bool deliver(struct broker *b);    /* true when there is more to do */
void deliver_arm(struct bsub *s);  /* the timer for the next lease that ends */
/* SUBSCRIBED: the answer to a request, or (0) what comes next has another epoch. 0 or -EAGAIN. */
int deliver_terms(struct subscription *sub, uint32_t request);

/* journal.c: logs/tenants/<tenant>/stream.jsonl */
void journal_interval(struct broker *b);
void journal_breach(struct bstream *st, enum wire_code code, const char *detail);
void journal_dead(struct bsub *s, const struct dead_letter *d);
void journal_cut_off(struct bstream *st, const char *app, bool cut_off); /* app: whose rejects were too many */
void journal_lost(struct bstream *st);                                   /* what the store had lost when it was opened */

/* control.c */
int control_start(struct broker *b, struct err *e);
void control_stop(struct broker *b);
void control_activate(struct bsub *s); /* tells watchers that the subscription has messages and no consumer */
/* The same listings without a running broker, to stdout. */
void control_print_queues(struct broker *b, struct buf *out, const char *tenant);
void control_print_dead(struct broker *b, struct buf *out, const char *tenant, const char *stream, const char *app);

#endif
