#include "table.h"

#include "base/mem.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { ID_KEY_BYTES = 5 /* type, "_id" and its end */, SPARE = 1024 };

static unsigned char key[crypto_shorthash_siphashx24_KEYBYTES];

static void draw_key(void)
{
    static bool drawn;
    if (!drawn)
        randombytes_buf(key, sizeof key);
    drawn = true;
}

bool table_fingerprint(struct buf *scratch, const bson_t *doc, struct fingerprint *ret)
{
    enum { HEAD = 4 };
    bson_iter_t it;
    unsigned char type_and_value[16];
    if (!bson_iter_init_find(&it, doc, "_id"))
        return false;
    draw_key();
    const uint8_t *p = bson_get_data(doc), *id = p + it.off, *end = p + it.next_off, *value = id + ID_KEY_BYTES;
    /* The type goes into the hash behind the value's own: 1 as int32 and a string of the same bytes are others. */
    crypto_shorthash_siphashx24(type_and_value, value, (unsigned long long)(end - value), key);
    type_and_value[0] = (unsigned char)(type_and_value[0] ^ *id);
    memcpy(ret->id, type_and_value, sizeof ret->id);
    ret->id[0] |= !ret->id[0] && !ret->id[1]; /* zeros mean that an entry is free */
    unsigned char content[crypto_shorthash_BYTES];
    if (id == p + HEAD) {
        crypto_shorthash(content, end, (unsigned long long)(p + doc->len - end), key);
    } else {
        scratch->n = 0;
        buf_add(scratch, p + HEAD, (size_t)(id - p) - HEAD);
        buf_add(scratch, end, (size_t)(p + doc->len - end));
        crypto_shorthash(content, (const unsigned char *)scratch->p, scratch->n, key);
    }
    memcpy(&ret->content, content, sizeof ret->content);
    ret->content >>= 2;
    return true;
}

uint64_t table_parts(int64_t documents, int64_t at_most)
{
    return documents <= at_most ? 1 : (uint64_t)((documents + at_most - 1) / at_most);
}

void table_init(struct table *t, int64_t documents, uint64_t part, uint64_t parts)
{
    const uint64_t share = (uint64_t)documents / parts;
    *t = (struct table){.part = part, .parts = parts, .cap = share + share / 4 + SPARE};
    t->v = xcalloc(t->cap, sizeof *t->v);
}

void table_fini(struct table *t)
{
    free(t->v);
    buf_fini(&t->scratch);
    *t = (struct table){0};
}

bool table_is_of(const struct table *t, const struct fingerprint *f)
{
    return f->id[1] % t->parts == t->part;
}

/* Its entry, or the free one where it belongs. */
static struct table_entry *place(const struct table *t, const struct fingerprint *f)
{
    uint64_t i = (uint64_t)(((unsigned __int128)f->id[0] * t->cap) >> 64);
    while ((t->v[i].id[0] || t->v[i].id[1]) && (t->v[i].id[0] != f->id[0] || t->v[i].id[1] != f->id[1]))
        i = i + 1 < t->cap ? i + 1 : 0;
    return &t->v[i];
}

bool table_put(struct table *t, const struct fingerprint *f, struct table_entry **ret)
{
    struct table_entry *x = place(t, f);
    *ret = x;
    if (x->id[0] || x->id[1])
        return false;
    if (t->n + 1 >= t->cap) {
        *ret = NULL;
        return false;
    }
    *x = (struct table_entry){.id = {f->id[0], f->id[1]}, .content = f->content & (UINT64_MAX >> 2), .state = TABLE_ABSENT};
    t->n++;
    return true;
}

struct table_entry *table_find(const struct table *t, const struct fingerprint *f)
{
    struct table_entry *x = place(t, f);
    return x->id[0] || x->id[1] ? x : NULL;
}

void table_reset(struct table *t)
{
    for (uint64_t i = 0; i < t->cap; i++)
        t->v[i].state = TABLE_ABSENT;
}

int64_t table_count(const struct table *t, enum table_state state)
{
    int64_t n = 0;
    for (uint64_t i = 0; i < t->cap; i++)
        n += (t->v[i].id[0] || t->v[i].id[1]) && t->v[i].state == state;
    return n;
}
