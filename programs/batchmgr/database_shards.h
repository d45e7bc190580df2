/* Collections of a sharded MongoDB, for datasets that have `shard`: the platform's user has each sharded before the first load,
 * since a tenant's own user may not. What cannot be sharded is told, and loads go on as ever: rows need no shard key to be stored.
 *
 * A thread for each server, which may wait for an index of a large collection; loads wait for its first answer only. It looks again
 * now and then: a collection may be dropped, a right be given. */
#ifndef SIMBDP_BATCHMGR_DATABASE_SHARDS_H
#define SIMBDP_BATCHMGR_DATABASE_SHARDS_H

#include <stdbool.h>
#include <stddef.h>

struct event_base;
struct shards;

/* on_change runs on the loop, when something is known that was not. */
struct shards *shards_new(struct event_base *base, void (*on_change)(void *arg), void *arg);
void shards_free(struct shards *x); /* waits for the threads, two seconds at most: the process ends behind it. NULL is fine */

struct shard_wish {
    const char *tenant, *server, *database, *collection, *spec; /* server: a URL; spec: as in lib/read/spec.h */
};
/* From now on these are wanted, and no others; all are looked at again. */
void shards_want(struct shards *x, const struct shard_wish *v, size_t n);
/* Whether the tenant's database may be used now; nothing is sharded there before. */
void shards_let(struct shards *x, const char *tenant, bool may);
/* Whether the tenant's loads are to wait. */
bool shards_are_pending(struct shards *x, const char *tenant);
/* Each of the tenant's that is not as it should be, and why. */
void shards_each_not(struct shards *x, const char *tenant, void (*each)(void *arg, const char *collection, const char *why),
                     void *arg);

#endif
