/* The unique indexes that a dataset's key and unique columns ask for. Where rows replace one another by a key that a sharded
 * MongoDB cannot keep unique by an index, the _id does, which is made of it, and the index is an ordinary one. */
#ifndef SIMBDP_LOAD_INDEX_H
#define SIMBDP_LOAD_INDEX_H

#include "base/buf.h"
#include "read/spec.h"
#include "sink.h"

bool index_is_needed(const struct spec *spec);

/* Makes them; those that are there already stay. Blocks. Errors as sink_flush, and ERR_CONFIG: the collection cannot have
 * them. */
int index_make(struct sink *s, const struct spec *spec, struct err *e);
/* The same. False: *be, of the index in `name`. */
bool index_make_on(mongoc_collection_t *c, const struct spec *spec, struct buf *name, bson_error_t *be);

#endif
