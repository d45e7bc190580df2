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

/* Stands for the key of an entry that was removed. Its slot stays taken, so that no other entry moves: those who iterate go on. */
static char gone[1];

static size_t find(const struct map *m, const char *key)
{
    size_t i = hash(key) & (m->cap - 1);
    while (m->slots[i].key && (m->slots[i].key == gone || strcmp(m->slots[i].key, key) != 0))
        i = (i + 1) & (m->cap - 1);
    return i;
}

void map_fini(struct map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].key != gone)
            free(m->slots[i].key);
    free(m->slots);
    *m = (struct map){0};
}

void *map_get(const struct map *m, const char *key)
{
    return m->cap ? m->slots[find(m, key)].value : NULL;
}

/* Larger where it is half full of what is there; else only without what is gone. */
static void make_room(struct map *m)
{
    size_t cap = !m->cap ? 64 : m->n * 2 >= m->cap ? m->cap * 2 : m->cap;
    struct map next = {xcalloc(cap, sizeof *m->slots), m->n, cap, 0};
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].key && m->slots[i].key != gone)
            next.slots[find(&next, m->slots[i].key)] = m->slots[i];
    free(m->slots);
    *m = next;
}

void map_put(struct map *m, const char *key, void *value)
{
    if ((m->n + m->n_gone) * 4 >= m->cap * 3)
        make_room(m);
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
    m->slots[i] = (struct map_slot){gone, NULL};
    m->n--;
    m->n_gone++;
    /* At the end of a run of slots nobody has to pass it, nor those that are gone before it. */
    if (!m->slots[(i + 1) & (m->cap - 1)].key)
        for (; m->slots[i].key == gone; i = (i - 1) & (m->cap - 1), m->n_gone--)
            m->slots[i].key = NULL;
    return old;
}

void *map_next(const struct map *m, size_t *i)
{
    while (*i < m->cap) {
        struct map_slot *s = &m->slots[(*i)++];
        if (s->key && s->key != gone)
            return s->value;
    }
    return NULL;
}
