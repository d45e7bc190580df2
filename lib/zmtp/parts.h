/* What server.c (accepting, time, ends), owner.c (what is counted against whom, and turns), send.c, handshake.c and read.c share.
 * See server.h for the contract. */
#ifndef SIMBDP_ZMTP_PARTS_H
#define SIMBDP_ZMTP_PARTS_H

#include "server.h"

#include "base/map.h"

#include <event2/event.h>

enum {
    SCRATCH = 256 << 10,
    MIN_READ = 16 << 10,
    TICK_MS = 250,
    FULL = 1 << 20, /* unread of a connection: from here on what can wait should */
};

enum { F_MORE = 1, F_LONG = 2, F_COMMAND = 4 }; /* of a frame */
enum { BOX_MORE = 1, BOX_COMMAND = 2 };         /* of a frame in a box */
/* Of a connection. conn_set_state() is the only way from one to the next; there is no way back. */
enum conn_state { GREET, HANDSHAKE, OPEN };
enum refusal { STRANGER, TOO_MANY, BAD_KEY, MALFORMED, SLOW, N_REFUSALS };

struct owner {
    char *name;
    int n;
    size_t partial, unread;
    size_t taken; /* in this turn */
};

struct zmtp_conn {
    struct zmtp_server *s;
    struct zmtp_conn *next, **link; /* of all */
    struct zmtp_conn *next_dead, *next_dirty, *next_waiting;
    struct owner *owner; /* NULL: not known yet */
    int fd;
    struct event *read_ev, *write_ev;
    enum conn_state state;
    bool dead;    /* it is freed after this turn of the loop */
    bool told;    /* on_open was called, so on_close will be */
    bool dirty;   /* to be flushed at the end of this turn */
    bool full;    /* on_drain is to be called once it is not any more */
    bool waiting; /* for its owner's next turn; what was read and not looked at yet is in `in` */
    void *tag;
    int64_t uid, pid;
    char *user;
    struct curve *curve; /* NULL: the mechanism is NULL */
    int64_t opened_ms, heard_ms, pinged_ms, partial_ms, paused_until_ms;
    bool no_room;  /* it is paused because its owner has too much under way */
    struct buf in; /* what is not a whole frame yet */
    size_t want;   /* so much of it makes the next one whole */
    size_t room;   /* of the next read: about what a turn takes of it */
    struct zmtp_message msg;
    size_t off[ZMTP_MAX_FRAMES], n_frames;
    bool wants_more;  /* of the message's frames */
    size_t body_left; /* of a large frame, which is read to where it stays */
    bool body_more;
    size_t counted; /* of owner->partial */
    struct buf out;
    size_t out_at, out_counted, out_messages; /* about so many: a part that left counts as its share of the bytes */
};

struct zmtp_server {
    struct event_base *base;
    const struct curve_server *curve;
    const struct zmtp_ops *ops;
    void *arg;
    struct event *accept_ev, *tick_ev, *reap_ev, *flush_ev, *turn_ev;
    struct zmtp_conn *first, *dead, *dirty;
    struct zmtp_conn *waiting, **last_waiting;
    struct map owners;
    struct owner unknown; /* stands for all connections whose owner is not known yet */
    size_t n, n_unknown, max_message;
    int64_t accept_at_ms;
    struct {
        uint64_t n;
        int64_t told_ms;
    } refusals[N_REFUSALS];
    unsigned char *scratch;
};

/* ---- server.c ---- */

/* Counts it; the log gets a line every ten seconds at most of each kind. */
void server_refuse(struct zmtp_server *s, enum refusal why, const char *who, const char *what);
/* Asserts that it is the next one. */
void conn_set_state(struct zmtp_conn *c, enum conn_state state);
/* The connection's end: it is freed after this turn of the loop. */
void conn_mark_dead(struct zmtp_conn *c);
void conn_end(struct zmtp_conn *c, enum refusal why, const char *what);

/* ---- owner.c ---- */

/* Makes the connection one of `owner`'s. False where the owner has `max` already; that is logged. */
bool conn_join(struct zmtp_conn *c, const char *owner, int max);
void conn_leave_owner(struct zmtp_conn *c);
/* Counts anew against the owner what the connection holds of an incomplete message. */
void conn_count_partial(struct zmtp_conn *c);
size_t server_max_partial(const struct zmtp_server *s);
/* Whether its owner has something left of this turn of the loop, of which n bytes are taken. */
bool conn_may_go_on(struct zmtp_conn *c);
void conn_charge(struct zmtp_conn *c, size_t n);
/* Nothing is read from it until its owner's next turn. */
void conn_wait_for_turn(struct zmtp_conn *c);
void conn_stop_waiting(struct zmtp_conn *c);
/* Another turn: those who wait go on, as far as it goes. */
void server_on_turn(evutil_socket_t fd, short what, void *server);

/* ---- send.c ---- */

/* Adds a frame to what is to be sent, encrypted where the connection is. */
void conn_add_frame(struct zmtp_conn *c, unsigned flags, const void *p, size_t n);
void conn_flush(struct zmtp_conn *c);
void conn_flush_soon(struct zmtp_conn *c); /* at the end of this turn */
void conn_on_writable(evutil_socket_t fd, short what, void *conn);
void server_on_flush(evutil_socket_t fd, short what, void *server);

/* ---- handshake.c ---- */

void conn_greet(struct zmtp_conn *c);
/* How many bytes it took, 0: more are needed, or it was ended. */
size_t conn_take_greeting(struct zmtp_conn *c, const unsigned char *p, size_t n);
/* Of a handshake, or PING. p is written to. */
void conn_on_command(struct zmtp_conn *c, unsigned char *p, size_t n);

/* ---- read.c ---- */

void conn_on_readable(evutil_socket_t fd, short what, void *conn);
/* Goes on with what was read, and then with reading. */
void conn_resume(struct zmtp_conn *c);

#endif
