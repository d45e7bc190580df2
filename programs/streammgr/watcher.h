/* The connection to the broker's control socket, made again whenever it ends: what it says goes to watcher_ops. */
#ifndef SIMBDP_STREAMMGR_WATCHER_H
#define SIMBDP_STREAMMGR_WATCHER_H

#include "base/buf.h"
#include "base/json.h"

#include <stdbool.h>

struct streammgr;
struct watcher;

struct watcher_ops {
    bool (*hold)(struct streammgr *m, struct buf *out); /* adds "hold" to a request (drain.h); false: it can go without */
    void (*consumers)(struct streammgr *m, const bson_iter_t *consumers);
    void (*activate)(struct streammgr *m, const char *tenant, const char *app);
    void (*up)(struct streammgr *m);   /* it is known where the broker listens */
    void (*down)(struct streammgr *m); /* the broker is gone */
};

struct watcher *watcher_new(struct streammgr *m, const struct watcher_ops *ops); /* ops are borrowed */
void watcher_free(struct watcher *w);                                            /* NULL is fine */
/* Asks what consumers hold, and says who is to get nothing more; the answer comes by `consumers`. One request is under way at a
 * time; one that is asked for meanwhile follows it. False: the broker is not there, or has not answered for long. */
bool watcher_ask(struct watcher *w);
const char *watcher_endpoint(const struct watcher *w); /* NULL: the broker has not been there yet */

#endif
