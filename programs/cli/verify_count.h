/* How many documents MongoDB has, by collection and prefix; each collection is counted once. simbdp-load --count does it
 * (programs/loader/count.h), so that the command line need not be linked with the driver. */
#ifndef SIMBDP_CLI_VERIFY_COUNT_H
#define SIMBDP_CLI_VERIFY_COUNT_H

#include "cli.h"

#include "base/map.h"
#include "conf/conf.h"

struct counts;

/* What was counted in a collection. */
struct counted {
    struct map rows; /* hex of the prefix -> int64_t *: documents with an _id of ours */
    int64_t total;   /* -1: it could not be counted, which was said on stderr */
};

/* *ret NULL: nothing ever ran in this home. ERR_FORMAT or -errno. Borrows h. Blocks for a file; where batchmgr began just now, up
 * to ten seconds until it knows which databases are there. */
int counts_new(const struct home *h, struct counts **ret, struct err *e);
void counts_free(struct counts *c); /* NULL is fine */

/* The counts of a collection, valid as long as `c`. Blocks for one pass over the collection's _ids, the first time. */
const struct counted *counts_of(struct counts *c, const struct conf_tenant *t, const char *collection);
int64_t counted_rows(const struct counted *c, const char *prefix);
int64_t counts_not_compared(const struct counts *c); /* collections */

#endif
