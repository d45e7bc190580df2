/* Streams of events (WHATWG's text/event-stream): a tenant's, and a run's log as it grows.
 *
 * A reader that comes reads the tenant's shared feed (feed.h) from its end on. One that names the last event it had reads a feed of
 * its own from there to where the shared one was when it came, and then goes over. Its connection is suspended while there is
 * nothing for it. One that falls behind what the shared feed keeps is cut off, and may come again with the last event it had. */
#ifndef SIMBDP_GATEWAY_EVENTS_H
#define SIMBDP_GATEWAY_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct events;
struct gateway;
struct request;

struct events *events_new(struct gateway *g);
/* Behind the server, and the keepers. NULL is fine. */
void events_free(struct events *all);
size_t events_open(const struct events *all); /* streams */
/* Comments to those that are silent; rights that are over. About once a second. */
void events_sweep(struct events *all, int64_t now_ms);
/* Tells all streams that they end, and ends them; the server then has to send that. */
void events_end(struct events *all);

/* Whether the request wants a run's log as a stream. */
bool events_are_wanted(const struct request *rq);
/* Answers it so. */
void follow_log(struct request *rq);

#endif
