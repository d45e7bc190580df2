/* NAME.metadata.json of a dump, as mongodump writes it (mongo-tools, mongodump/metadata_dump.go, Metadata): canonical Extended
 * JSON,
 *   {"options": {...}, "indexes": [{"v","key","name",...}], "uuid": hex, "collectionName": name, "type": "collection" | "view"}
 * without `options` where there are none, without `uuid` and `type` where the server does not tell; `indexes` as listIndexes has
 * them, the one of _id among them, and none of a view. */
#ifndef SIMBDP_MONGODUMP_METADATA_H
#define SIMBDP_MONGODUMP_METADATA_H

#include "base/buf.h"
#include "base/err.h"

#include <bson/bson.h>
#include <stdbool.h>

/* info: of listCollections; indexes: an array. ERR_FORMAT: it would not read back as it is. */
int metadata_write(const bson_t *info, const bson_t *indexes, struct buf *out, struct err *e);

struct metadata {
    bson_t *options;  /* NULL: none */
    bson_t **indexes; /* to be made: without the one of _id, which every collection has, and without `ns`, which servers refuse */
    size_t n_indexes;
    char *collection; /* NULL: it does not tell */
    bool view, timeseries;
};

/* path: for the text of errors. */
int metadata_read(const char *text, size_t n, const char *path, struct metadata *ret, struct err *e);
void metadata_fini(struct metadata *m);

#endif
