#include "map.h"
#include "mem.h"

#include <stdint.h>
#include <string.h>

static size_t hash(const char *key)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (const unsigned char *p = (const unsigned char *)key; *p; p++)
        h = (h ^ *p) * 0x100000001b3ull;
    return (size_t)(h ^ (h >> 29));
}

static size_t find(const struct map *m, const char *key)
{
    size_t i = hash(key) & (m->cap - 1);
    while (m->slots[i].key && strcmp(m->slots[i].key, key))
        i = (i + 1) & (m->cap - 1);
    return i;
}

void map_fini(struct map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        free(m->slots[i].key);
    free(m->slots);
    *m = (struct map){0};
}

void *map_get(const struct map *m, const char *key)
{
    return m->cap ? m->slots[find(m, key)].value : NULL;
}

static void grow(struct map *m)
{
    struct map next = {xcalloc(m->cap ? m->cap * 2 : 64, sizeof *m->slots), m->n, m->cap ? m->cap * 2 : 64};
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].key)
            next.slots[find(&next, m->slots[i].key)] = m->slots[i];
    free(m->slots);
    *m = next;
}

void map_put(struct map *m, const char *key, void *value)
{
    if (m->n * 4 >= m->cap * 3)
        grow(m);
    struct map_slot *s = &m->slots[find(m, key)];
    if (!s->key) {
        s->key = xstrdup(key);
        m->n++;
    }
    s->value = value;
}

void *map_remove(struct map *m, const char *key)
{
    if (!m->cap)
        return NULL;
    size_t i = find(m, key);
    void *old = m->slots[i].value;
    if (!m->slots[i].key)
        return NULL;
    free(m->slots[i].key);
    m->slots[i] = (struct map_slot){0};
    m->n--;
    /* Close the gap: entries behind it may have been pushed past this place when it was taken. */
    for (size_t k = (i + 1) & (m->cap - 1); m->slots[k].key; k = (k + 1) & (m->cap - 1)) {
        struct map_slot moved = m->slots[k];
        m->slots[k] = (struct map_slot){0};
        m->slots[find(m, moved.key)] = moved;
    }
    return old;
}

void *map_next(const struct map *m, size_t *i)
{
    while (*i < m->cap) {
        struct map_slot *s = &m->slots[(*i)++];
        if (s->key)
            return s->value;
    }
    return NULL;
}
