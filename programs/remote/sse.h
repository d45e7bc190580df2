/* Server-sent events of the gateway (https://html.spec.whatwg.org/multipage/server-sent-events.html), as long as they come. After a
 * cut it goes on behind the last id, so that nothing is told twice. */
#ifndef SIMBDP_REMOTE_SSE_H
#define SIMBDP_REMOTE_SSE_H

#include "remote.h"

enum { SSE_ID = 256 };
#define SSE_TOO_MANY "event_streams" /* the reason then */

struct sse {
    struct remote *r;
    const char *path;
    char last[SSE_ID]; /* the id behind which to begin; "": from now on */
    bool may_give_way; /* where there may be no more streams of events, it is over at once: the caller can do without */
    /* Of each connection before the first event of it; and when all was taken that came at once. NULL: nobody wants to know. What
     * may wait for other requests belongs there. False ends it. */
    bool (*on_begin)(void *arg);
    bool (*on_pause)(void *arg);
    /* An event; doc NULL: its data are no JSON object. False ends it. */
    bool (*on_event)(void *arg, const char *name, const bson_t *doc);
    void *arg;
};

/* Blocks. 0: one of the functions ended it, or the gateway did, having said all (`end` because of "ended", or 204). ERR_REFUSED
 * and others: it cannot go on. Losses in between are told on stderr. Requests of its own go over another connection than
 * remote_get's. */
int sse_follow(struct sse *s, struct err *e);

#endif
