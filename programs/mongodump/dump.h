/* A dump of databases into a directory, as mongodump makes it: DIR/<database>/<collection>.bson and .metadata.json (names.h,
 * metadata.h), and a manifest (manifest.h).
 *
 * Each collection is in it as one cursor saw it. While somebody writes, that is no single moment of all of them.
 *
 * Cut short, it is none: the manifest says so until all is on the disk, restore refuses it, and the next dump into the same
 * directory removes it first. What fails otherwise leaves nothing behind. */
#ifndef SIMBDP_MONGODUMP_DUMP_H
#define SIMBDP_MONGODUMP_DUMP_H

#include "manifest.h"

#include <mongoc/mongoc.h>

struct dump_order {
    const char *dir, *home; /* home NULL: it is not a home's */
    char **databases;       /* n 0: all that the server has */
    size_t n_databases;
    mongoc_client_t *(*connect)(struct err *e);
};

/* *ret: what became of it; the caller frees it with manifest_fini. Blocks for as long as it takes. */
int dump_take(const struct dump_order *o, struct manifest *ret, struct err *e);

#endif
