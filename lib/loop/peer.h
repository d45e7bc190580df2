/* A connection to another program's control socket (ctl.h), on the loop. It is made again whenever it ends, since the other program
 * may start later, crash, or be upgraded. */
#ifndef SIMBDP_LOOP_PEER_H
#define SIMBDP_LOOP_PEER_H

#include "base/json.h"

#include <stddef.h>

struct event_base;
struct peer;

struct peer_ops {
    void (*on_up)(void *arg);                      /* connected: the place to send what is always said first; may be NULL */
    void (*on_line)(void *arg, const bson_t *doc); /* an answer, or a line that was not asked for; what is no JSON is skipped */
    void (*on_down)(void *arg);                    /* the connection ended; what was asked will not be answered */
    void *arg;
};

/* `path` is copied. Does not wait, and calls nothing before the loop turns. */
struct peer *peer_new(struct event_base *base, const char *path, const struct peer_ops *ops);
void peer_free(struct peer *p); /* on_down is not called; NULL is fine */
/* Sends a request, given without its newline. False: not connected, nothing was sent. */
bool peer_send(struct peer *p, const char *line, size_t n);
bool peer_is_up(const struct peer *p);

#endif
