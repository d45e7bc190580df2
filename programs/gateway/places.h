/* How many uploads of an account are in flight: at most http.uploads. */
#ifndef SIMBDP_GATEWAY_PLACES_H
#define SIMBDP_GATEWAY_PLACES_H

struct request;
struct place;

/* One more of the request's account; NULL: there is none, and the request was refused. */
struct place *place_take(struct request *rq);
void place_leave(struct place *p); /* NULL is fine */

#endif
