/* The unique indexes that a dataset's key and unique columns ask for. */
#ifndef SIMBDP_LOAD_INDEX_H
#define SIMBDP_LOAD_INDEX_H

#include "read/spec.h"
#include "sink.h"

bool index_is_needed(const struct spec *spec);

/* Makes them; those that are there already stay. Blocks. Errors as sink_flush, and ERR_CONFIG: the collection cannot have
 * them. */
int index_make(struct sink *s, const struct spec *spec, struct err *e);

#endif
