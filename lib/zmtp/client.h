/* A DEALER on the loop: one connection over a Unix socket to a peer that speaks ZMTP 3.0 or 3.1 with mechanism NULL
 * (https://rfc.zeromq.org/spec/37), as server.h does. For programs that have many requests under way and no thread to wait in. It
 * is made again when it ends. One thread. */
#ifndef SIMBDP_ZMTP_CLIENT_H
#define SIMBDP_ZMTP_CLIENT_H

#include "wire/wire.h"

#include <event2/event.h>

struct zmtp_client;

struct zmtp_client_ops {
    void (*on_up)(void *arg);                                            /* messages may be sent; may be NULL */
    void (*on_message)(void *arg, const struct wire_frame *v, size_t n); /* valid during the call */
    void (*on_down)(void *arg);                                          /* what was not answered will not be */
    void *arg;
};

/* `path` is copied. max_message: a larger one ends the connection. Does not wait; calls nothing before the loop turns. */
struct zmtp_client *zmtp_client_new(struct event_base *base, const char *path, size_t max_message,
                                    const struct zmtp_client_ops *ops);
void zmtp_client_free(struct zmtp_client *c); /* on_down is not called; NULL is fine */
bool zmtp_client_is_up(const struct zmtp_client *c);
/* False: it is not up; nothing was sent. The bytes are copied. */
bool zmtp_client_send(struct zmtp_client *c, const struct wire_frame *v, size_t n);
/* Bytes that were sent and that the peer has not taken yet. */
size_t zmtp_client_backlog(const struct zmtp_client *c);

#endif
