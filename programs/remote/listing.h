/* Objects that the gateway answers with, as tables and lines. */
#ifndef SIMBDP_REMOTE_LISTING_H
#define SIMBDP_REMOTE_LISTING_H

#include "remote.h"

#include "query/objects.h"

/* Objects, kept in the order in which they were added. */
struct docs {
    bson_t **v;
    size_t n;
};
void docs_add(struct docs *d, const bson_t *doc); /* a copy */
void docs_fini(struct docs *d);
#define AUTO_DOCS __attribute__((cleanup(docs_fini)))

/* Prints them as a table, or with --json an object a line. A column of COL_WORDS is what words_of (query/words.h) says of the
 * object; what is no column is in JSON alone. `newest_last`: from the last to the first. */
void listing_print(const struct remote *r, const struct docs *d, const struct col *cols, size_t n_cols, bool newest_last);
/* An object as JSON, on a line. */
void listing_object(const bson_t *doc);
#define listing_members object_members
#define listing_cell    object_cell

/* Reads pages of `what` (files, runs; their key in the answer) until there are `limit` objects (0: all). query: "k=v&k=v" or "". 0,
 * or negative with what it was. */
int listing_pages(struct remote *r, const char *what, const char *query, int64_t limit, struct docs *ret, struct err *e);

#endif
