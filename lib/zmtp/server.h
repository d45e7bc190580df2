/* A listener for ZMTP 3 (rfc.zeromq.org/spec/23 and 37) on a libevent loop: what ZeroMQ's ROUTER and PULL sockets are to their
 * peers, but with bounds before anything is in memory. libzmq's own receiving side has none that hold: it takes every connection
 * until descriptors run out, and then aborts; and it takes a message of endless frames until memory runs out.
 *
 * Who may connect is asked before a byte is read: on ipc of the kernel (SO_PEERCRED), on tcp by a CURVE key. Everything an owner (a
 * uid, or a user) has here is counted against it: connections, bytes of messages that are not complete, bytes it does not read. One
 * thread, the loop's; nothing here waits. */
#ifndef SIMBDP_ZMTP_SERVER_H
#define SIMBDP_ZMTP_SERVER_H

#include "base/buf.h"
#include "base/err.h"
#include "curve.h"
#include "wire/wire.h"

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct zmtp_server;
struct zmtp_conn;

enum { ZMTP_MAX_FRAMES = WIRE_MAX_FRAMES };

/* All frames of a message; they point into data. */
struct zmtp_message {
    struct wire_frame f[ZMTP_MAX_FRAMES];
    size_t n;
    bool too_many; /* it had more frames than that; f has the first */
    struct buf data;
};

struct zmtp_ops {
    const char *type;       /* "ROUTER" or "PULL": what peers are told */
    const char *peer_types; /* names with a space before and behind each: who may talk to that */
    /* ipc: how many connections this uid may have; 0: it is a stranger. */
    int (*may_connect)(void *arg, int64_t uid);
    /* tcp: who has this key (NULL: nobody), and how many connections he may have. The string is copied. */
    const char *(*user_of_key)(void *arg, const unsigned char key[CURVE_KEY], int *ret_max);
    void (*on_open)(void *arg, struct zmtp_conn *c); /* the handshake is over */
    /* May keep the message with zmtp_message_move; may not free the connection. */
    void (*on_message)(void *arg, struct zmtp_conn *c, struct zmtp_message *m);
    void (*on_drain)(void *arg,
                     struct zmtp_conn *c); /* it was full or refused something, and would not any more. NULL: nobody asks */
    /* For each on_open; never from within another call but zmtp_server_free. */
    void (*on_close)(void *arg, struct zmtp_conn *c);
};

/* Takes a listening, non-blocking socket, which stays the caller's. curve: tcp; NULL: ipc. ops and curve are used until
 * zmtp_server_free. */
struct zmtp_server *zmtp_server_new(struct event_base *base, int listener, const struct curve_server *curve,
                                    const struct zmtp_ops *ops, void *arg);
void zmtp_server_free(struct zmtp_server *s); /* NULL is fine; connections end */
/* Bytes of a message's frames together, from now on; a connection that goes beyond is ended. */
void zmtp_server_limit(struct zmtp_server *s, size_t max_message);
/* A connected stream socket as if it had been accepted; takes fd. For tests. */
void zmtp_server_adopt(struct zmtp_server *s, int fd);

/* A message to a peer, copied; leaves at the end of this loop turn. 0, or -EAGAIN: about 2,048 messages or too many bytes are
 * unread, or the connection is ending. */
int zmtp_send(struct zmtp_conn *c, const struct wire_frame *v, size_t n);
/* So much is unread that what can wait should; on_drain says when it need not any more. */
bool zmtp_is_full(struct zmtp_conn *c);
/* Nothing is read from it for so long; what it sends waits at its side. */
void zmtp_pause(struct zmtp_conn *c, int ms);

/* Ends it after this turn of the loop, which on_close tells. From any callback. */
void zmtp_end(struct zmtp_conn *c);

void zmtp_set_tag(struct zmtp_conn *c, void *tag);
void *zmtp_tag(const struct zmtp_conn *c);
int64_t zmtp_uid(const struct zmtp_conn *c);      /* -1: tcp */
int64_t zmtp_pid(const struct zmtp_conn *c);      /* when it connected; -1: tcp */
const char *zmtp_user(const struct zmtp_conn *c); /* tcp: the user; ipc: "uid N, pid M" */
/* tcp: the key that it showed, CURVE_KEY bytes; NULL: ipc. */
const unsigned char *zmtp_key(const struct zmtp_conn *c);
size_t zmtp_server_connections(const struct zmtp_server *s);

/* `to` has it then, and `from` is empty; the frames stay where they are. */
void zmtp_message_move(struct zmtp_message *to, struct zmtp_message *from);
void zmtp_message_fini(struct zmtp_message *m);

#endif
