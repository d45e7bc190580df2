/* What became of a file, in words. */
#ifndef SIMBDP_QUERY_WORDS_H
#define SIMBDP_QUERY_WORDS_H

#include <sqlite3.h>
#include <stdint.h>

/* Why the file is in its state: the reason in words, and the detail behind it; of an ingested file, how many rows came of it.
 * reason and detail may be NULL, counts negative where they are not known. The caller frees. NULL: there is nothing to say. */
char *words_of(const char *state, const char *reason, const char *detail, int64_t loaded, int64_t rejected);

/* The same as the SQL function words(state, reason, detail, rows_loaded, rows_rejected). */
int words_register(sqlite3 *db);

#endif
