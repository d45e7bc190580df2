/* The way out of an instance. Told to go, it gets no more messages from the broker and has drain_s to finish those it holds; then
 * SIGTERM, and after drain_s again SIGKILL, which is its runner's (its spec's grace_s). Who goes first: drain_order.h. */
#ifndef SIMBDP_STREAMMGR_DRAIN_H
#define SIMBDP_STREAMMGR_DRAIN_H

#include "model.h"

#include "base/buf.h"

/* DRAIN_AT_ONCE: SIGTERM now, for one that hangs and would finish nothing. DRAIN_UNHEARD: nothing is said to it, since nobody hears
 * its node; it does not count any more. */
#define DRAIN_WHY_UNHEARD "its node is not heard"
enum drain_manner { DRAIN_AT_ONCE, DRAIN_GENTLY, DRAIN_UNHEARD };

/* Tells it to go, because of `why` (kept in the book, and shown). One that was told before keeps its first reason and its time. */
void drain_instance(struct instance *i, enum drain_manner manner, const char *why);
/* Tells every instance of the app (NULL: of all) to go. */
void drain_all(struct streammgr *m, struct app *only, const char *why);
/* SIGTERM for those that have finished what they held, or whose time is over. */
void drain_look(struct streammgr *m);
/* Adds "hold", the sessions that are to get nothing more, to a request to the broker. False: there is none, and the broker knows of
 * none; the request can go without. */
bool drain_held_sessions(struct streammgr *m, struct buf *out);

#endif
