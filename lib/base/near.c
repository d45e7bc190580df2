#include "near.h"

#include <stdio.h>
#include <string.h>

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t distance_of(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t rows[3][NEAR_MAX + 1], *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t k = 0; k <= n_b; k++)
        last[k] = k;
    for (size_t i = 1; i <= n_a; i++) {
        now[0] = i;
        for (size_t k = 1; k <= n_b; k++) {
            now[k] = least(least(last[k], now[k - 1]) + 1, last[k - 1] + (a[i - 1] != b[k - 1]));
            if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
                now[k] = least(now[k], before[k - 2] + 1);
        }
        size_t *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[n_b];
}

void near_try(struct near *n, const char *candidate)
{
    size_t n_word = strlen(n->word), n_candidate = strlen(candidate);
    if (!n_word || n_word > NEAR_MAX || n_candidate > NEAR_MAX)
        return;
    size_t d = distance_of(n->word, n_word, candidate, n_candidate);
    if (d > (n_word + 2) / 3 || d >= n_candidate || (n->best && d >= n->distance))
        return;
    n->best = candidate;
    n->distance = d;
}

const char *near_text(const struct near *n, char out[NEAR_TEXT_SIZE])
{
    *out = 0;
    if (n->best)
        snprintf(out, NEAR_TEXT_SIZE, " (did you mean '%s'?)", n->best);
    return out;
}
