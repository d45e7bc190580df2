/* simbdp-load --count DATABASE COLLECTION, for `mysimbdp verify`: how many documents have an _id of ours (24 bytes), by prefix. It
 * makes one pass over the collection's _ids, since a count for each prefix would be a pass each where no index can count.
 *
 * Prints {"prefix":hex,"rows":N} a line, and {"ok":bool,"total":all documents,"error":text or null} at the end. */
#ifndef SIMBDP_LOADER_COUNT_H
#define SIMBDP_LOADER_COUNT_H

int count_main(const char *url, const char *database, const char *collection); /* returns the exit code */

#endif
