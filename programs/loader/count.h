/* simbdp-load --count DATABASE COLLECTION, for `mysimbdp verify`: how many documents have an _id of ours (24 bytes) with which
 * prefix. One pass over the collection's _ids: a count for each prefix would be a pass each where there is no index to count in.
 * Prints {"prefix":hex,"rows":N} a line, and {"ok":bool,"total":all documents,"error":text or null} at the end. */
#ifndef SIMBDP_LOADER_COUNT_H
#define SIMBDP_LOADER_COUNT_H

int count_main(const char *url, const char *database, const char *collection); /* the exit code */

#endif
