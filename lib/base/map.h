/* A hash map from strings to pointers (open addressing, FNV-1a). Keys are copied; values are the caller's. */
#ifndef SIMBDP_BASE_MAP_H
#define SIMBDP_BASE_MAP_H

#include <stddef.h>

struct map_slot {
    char *key;
    void *value;
};

struct map {
    struct map_slot *slots;
    size_t n, cap; /* cap is 0 or a power of two */
    size_t n_gone; /* slots whose entry was removed, until the map is made anew */
};

void map_fini(struct map *m);
void *map_get(const struct map *m, const char *key); /* NULL when absent */
void map_put(struct map *m, const char *key, void *value);
void *map_remove(struct map *m, const char *key); /* the old value or NULL */
/* Iteration, in no order: start with *i = 0; NULL at the end. Meanwhile any entries may be removed, the returned one too: the
 * others are returned once each all the same. None may be put. */
void *map_next(const struct map *m, size_t *i);

#endif
