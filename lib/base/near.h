/* Suggestions for a misspelt word: which of the known words is nearest. Distance is the least number of insertions, deletions,
 * changes and swaps of neighbours (optimal string alignment); how many are allowed depends on the word's length. */
#ifndef SIMBDP_BASE_NEAR_H
#define SIMBDP_BASE_NEAR_H

#include <stddef.h>

enum { NEAR_MAX = 64 }; /* longer words get no suggestion */

struct near {
    const char *word, *best; /* borrowed; best NULL: no suggestion */
    size_t distance;         /* distance of `best` */
};

/* Offers one of the known words. Before the first, everything but `word` is zero. */
void near_try(struct near *n, const char *candidate);

/* " (did you mean 'best'?)", or "". */
#define NEAR_TEXT_SIZE (NEAR_MAX + 32)
const char *near_text(const struct near *n, char out[NEAR_TEXT_SIZE]);

#endif
