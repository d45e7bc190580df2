/* A connection to the broker (docs/wire.md), for one thread. ZeroMQ connects again by itself when the broker was restarted; whoever
 * uses the link is told, since a new broker does not know subscriptions. */
#ifndef SIMBDP_STREAM_LINK_H
#define SIMBDP_STREAM_LINK_H

#include "base/err.h"
#include "base/mem.h"
#include "wire/wire.h"

struct link;

/* CURVE keys in Z85, for tcp; NULL or empty for ipc. */
struct link_keys {
    const char *server, *public, *secret;
};

/* Has a ZeroMQ socket that is not connected yet show them. 0, also when there are none; ERR_CONFIG: one of them is none. */
int link_use_keys(void *socket, const struct link_keys *keys, struct err *e);
/* Ends a ZeroMQ context (NULL is fine) whose sockets are closed; waits for their LINGER, signals or not. */
void link_end_context(void *zmq);

struct link_answer {
    struct wire_header h;
    struct wire_frame v[WIRE_MAX_FRAMES]; /* behind the header; valid until the next link_receive */
    size_t n;
};

/* Does not wait for the broker. ERR_CONFIG: the endpoint or a key is none. */
int link_open(const char *endpoint, const struct link_keys *keys, struct link **ret, struct err *e);
void link_close(struct link *l); /* NULL is fine */
/* link_receive returns early, with false, while fd is readable. Borrowed; -1: none. */
void link_watch(struct link *l, int fd);

/* Sends frames. False when so much is unsent already that they would have to wait: nothing was sent. Does not block. */
bool link_send(struct link *l, const struct wire_frame *v, size_t n);
/* Waits up to `ms` for an answer: true when there is one. Frames that make no sense are left out. */
bool link_receive(struct link *l, int64_t ms, struct link_answer *ret);
/* Whether the last link_receive returned because of fd. */
bool link_was_woken(const struct link *l);
/* True once after each new connection but the first. */
bool link_was_renewed(struct link *l);

/* What is in REFUSED. */
struct link_refusal {
    char code[16], text[512];
    uint32_t retry_after_ms;
};
void link_refusal(const struct link_answer *a, struct link_refusal *ret);

#endif
