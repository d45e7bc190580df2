/* Requests to another program's control socket (lib/loop/ctl.h). Each takes one of a few connections for itself until it is
 * answered: some are answered at once, others when something is durable. */
#ifndef SIMBDP_GATEWAY_POOL_H
#define SIMBDP_GATEWAY_POOL_H

#include "base/json.h"

#include <event2/event.h>

struct pool;

enum { POOL_QUEUE = 4096 }; /* requests that wait for a connection; more are refused */

/* doc NULL: the program is not there, or went before it answered: whether it did what was asked is not known. */
typedef void pool_answer_fn(void *arg, const bson_t *doc);

struct pool *pool_new(struct event_base *base, const char *socket_path, size_t n_connections);
void pool_free(struct pool *p); /* nobody is called; NULL is fine */
/* Without the final newline. False: the program is not there, or too many wait; `fn` is not called. */
bool pool_ask(struct pool *p, const char *request, size_t n, pool_answer_fn *fn, void *arg);
bool pool_is_up(const struct pool *p);

#endif
