/* Collections of a sharded MongoDB: whether one is sharded as its dataset says, and sharding it. For who may (clusterManager, or
 * the action enableSharding); a tenant's own user may not.
 *
 * mongodb.com/docs/manual/reference/command/shardCollection */
#ifndef SIMBDP_LOAD_SHARD_H
#define SIMBDP_LOAD_SHARD_H

#include "read/spec.h"

#include <mongoc/mongoc.h>

enum shard_state {
    SHARD_DONE,      /* it is sharded by that key */
    SHARD_NO_ROUTER, /* nothing is sharded there */
    SHARD_OTHER_KEY,
    SHARD_DENIED,  /* the user may not */
    SHARD_REFUSED, /* by the server, for what the text says */
    SHARD_UNCLEAR, /* it did not answer, or is busy: another time */
};

/* Sees to it that the collection is sharded as the spec says, and has its indexes; it need not exist. Harmless when it is so
 * already, or when others do the same at the same time. Blocks: for an index, too, where there are documents. Of *ret_made: whether
 * it was done just now. ret_why: for people, and what to do. */
enum shard_state shard_make(mongoc_client_t *c, const char *database, const char *collection, const struct spec *spec,
                            bool *ret_made, char *ret_why, size_t size);

#endif
