/* Strings. */
#ifndef SIMBDP_BASE_STRS_H
#define SIMBDP_BASE_STRS_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* A list of them. Whoever holds it owns the array and the strings. */
struct strs {
    char **v;
    size_t n;
};

/* Whether it ends so, and has something before that. */
static inline bool str_has_ending(const char *text, const char *ending)
{
    const size_t n = strlen(text), m = strlen(ending);
    return n > m && !strcmp(text + n - m, ending);
}

#endif
