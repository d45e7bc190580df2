/* What somebody probably meant by a word that is none of those there are: the one that the fewest insertions, deletions, changes
 * and swaps of neighbours lead to (optimal string alignment distance), if they are few for its length. */
#ifndef SIMBDP_BASE_NEAR_H
#define SIMBDP_BASE_NEAR_H

#include <stddef.h>

enum { NEAR_MAX = 64 }; /* longer words are near to none */

struct near {
    const char *word, *best; /* borrowed; best NULL: none is near */
    size_t distance;         /* of the best */
};

/* All zero but `word` at first. Looks at one that there is. */
void near_try(struct near *n, const char *candidate);

/* " (did you mean 'best'?)", or "". */
#define NEAR_TEXT_SIZE (NEAR_MAX + 32)
const char *near_text(const struct near *n, char out[NEAR_TEXT_SIZE]);

#endif
