/* A connection to a program of the home that is asked now and then, and never waited for: `top` has keys to look at. */
#ifndef SIMBDP_CLI_TOP_LINK_H
#define SIMBDP_CLI_TOP_LINK_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "host/home.h"

struct top_link {
    const struct home *h;
    const char *socket_name;
    int fd;     /* -1: there is none */
    bool waits; /* for an answer */
    int64_t asked_ms;
    struct buf in;
};

void top_link_init(struct top_link *l, const struct home *h, const char *socket_name);
void top_link_fini(struct top_link *l);
/* Asks, of who is connected first if need be. 0, or negative with what is to be said: it is down. Not while it waits. */
int top_link_ask(struct top_link *l, const char *request, struct err *e);
/* Takes what came. 0 and *ret, which the caller destroys; -EAGAIN: not yet; else what is to be said. */
int top_link_take(struct top_link *l, bson_t **ret, struct err *e);

#endif
