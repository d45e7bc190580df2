/* A list of strings. Whoever holds it owns the array and the strings. */
#ifndef SIMBDP_BASE_STRS_H
#define SIMBDP_BASE_STRS_H

#include <stddef.h>

struct strs {
    char **v;
    size_t n;
};

#endif
