/* Files or runs that are watched: which of them are others than when they were looked at before, and a line that tells it. */
#ifndef SIMBDP_QUERY_CHANGES_H
#define SIMBDP_QUERY_CHANGES_H

#include "records.h"

#include "base/json.h"

struct changes;

enum { CHANGES_NEWEST = 500 /* how many rows a look is to have */, CHANGES_MAX_ALONE = 50 /* and how many beside */ };

/* of: files or runs. Bounded: where more were seen than can be remembered, all is forgotten, and the next look is a first one. */
struct changes *changes_new(const struct records *of);
void changes_free(struct changes *c);

/* Begins a look. The rows of the first one are no changes. */
void changes_begin(struct changes *c);
/* A row, an object as listings print it, of this look. True: it is new, or in another state than before. */
bool changes_take(struct changes *c, const bson_t *row);
/* The id of one that is on its way and was not seen in this look, for it may be beyond the newest ones; NULL: no more, or as many
 * as a look may have. It counts as seen from then on. Ids are those of the map: valid until the next look. */
const char *changes_missing(struct changes *c);

/* Ends a look; rows that are taken between two looks may be changes, too. */
void changes_end(struct changes *c);

/* Prints the row on a line, or as an object if `json`. On a terminal it fits: long names are shortened. */
void changes_print(const struct changes *c, const bson_t *row, bool json);

#endif
