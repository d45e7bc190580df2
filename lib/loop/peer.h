/* A connection of one platform program to the control socket (ctl.h) of another, on the loop. It is made again whenever it ends:
 * the other program may come later, crash, or be upgraded. */
#ifndef SIMBDP_LOOP_PEER_H
#define SIMBDP_LOOP_PEER_H

#include "base/json.h"

#include <stddef.h>

struct event_base;
struct peer;

struct peer_ops {
    void (*on_up)(void *arg); /* connected: say what is always to be said first; NULL: nothing is */
    void (*on_line)(void *arg,
                    const bson_t *doc); /* one answer, or a line of the other's own; lines that are no JSON are left out */
    void (*on_down)(void *arg);         /* it is gone; what was asked is not answered any more */
    void *arg;
};

/* `path` is copied. Does not wait, and calls nothing before the loop turns. */
struct peer *peer_new(struct event_base *base, const char *path, const struct peer_ops *ops);
void peer_free(struct peer *p); /* without on_down; NULL is fine */
/* A request, without its newline. False: not connected, nothing was sent. */
bool peer_send(struct peer *p, const char *line, size_t n);
bool peer_is_up(const struct peer *p);

#endif
