/* Which numbers each publisher has used, so that a message that is sent again is stored once. */
#include "parts.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    MAX_PUBLISHERS = 10000, /* remembered per stream */
    MAX_SEEN = 64,          /* ranges of a publisher's numbers */
};

void publisher_free(struct publisher *p)
{
    free(p->seen);
    free(p);
}

static void key_of(uint64_t id, char out[20])
{
    snprintf(out, 20, "%016" PRIx64, id);
}

struct publisher *publisher_find(struct stream *st, uint64_t id)
{
    char key[20];
    key_of(id, key);
    return map_get(&st->publishers, key);
}

void publishers_forget(struct stream *st, int64_t seen_wall_ms)
{
    AUTO_FREE struct publisher **old = xmalloc((st->publishers.n + 1) * sizeof(struct publisher *));
    size_t i = 0, n = 0;
    for (struct publisher *p; (p = map_next(&st->publishers, &i));)
        if (p->wall_ms < seen_wall_ms)
            old[n++] = p;
    for (i = 0; i < n; i++) {
        char key[20];
        key_of(old[i]->id, key);
        map_remove(&st->publishers, key);
        publisher_free(old[i]);
    }
}

/* The least recently heard of. */
static void forget_oldest(struct stream *st)
{
    struct publisher *oldest = NULL;
    char key[20];
    size_t i = 0;
    for (struct publisher *p; (p = map_next(&st->publishers, &i));)
        if (!oldest || p->wall_ms < oldest->wall_ms)
            oldest = p;
    if (!oldest)
        return;
    key_of(oldest->id, key);
    map_remove(&st->publishers, key);
    publisher_free(oldest);
}

struct publisher *publisher_get(struct stream *st, uint64_t id, int64_t wall_ms)
{
    struct publisher *p = publisher_find(st, id);
    char key[20];
    if (!p) {
        if (st->publishers.n >= MAX_PUBLISHERS)
            forget_oldest(st);
        p = xcalloc(1, sizeof *p);
        p->id = id;
        key_of(id, key);
        map_put(&st->publishers, key, p);
    }
    if (wall_ms > p->wall_ms)
        p->wall_ms = wall_ms;
    return p;
}

void publisher_saw(struct publisher *p, uint64_t first, uint64_t last)
{
    size_t i = p->n_seen;
    while (i > 0 && p->seen[i - 1].first > first) /* mostly it is the last range that grows */
        i--;
    if (i > 0 && p->seen[i - 1].last + 1 >= first) {
        i--;
        if (last > p->seen[i].last)
            p->seen[i].last = last;
    } else {
        if (p->n_seen == MAX_SEEN) { /* the lowest gap closes: numbers in it that come now count as known */
            p->seen[1].first = p->seen[0].first;
            memmove(p->seen, p->seen + 1, --p->n_seen * sizeof *p->seen);
            if (i > 0)
                i--;
        }
        p->seen = xrealloc(p->seen, (p->n_seen + 1) * sizeof *p->seen);
        memmove(p->seen + i + 1, p->seen + i, (p->n_seen - i) * sizeof *p->seen);
        p->seen[i] = (struct range){first, last};
        p->n_seen++;
    }
    while (i + 1 < p->n_seen && p->seen[i].last + 1 >= p->seen[i + 1].first) {
        if (p->seen[i + 1].last > p->seen[i].last)
            p->seen[i].last = p->seen[i + 1].last;
        memmove(p->seen + i + 1, p->seen + i + 2, (p->n_seen - i - 2) * sizeof *p->seen);
        p->n_seen--;
    }
}

bool publisher_has_sent(const struct publisher *p, uint64_t number)
{
    for (size_t i = p ? p->n_seen : 0; i-- > 0;)
        if (number >= p->seen[i].first)
            return number <= p->seen[i].last;
    return false;
}

size_t publishers_record(const struct stream *st, struct buf *out)
{
    size_t i = 0;
    le_add_u32(out, st->id);
    le_add_u32(out, (uint32_t)st->publishers.n);
    for (const struct publisher *p; (p = map_next(&st->publishers, &i));) {
        le_add_u64(out, p->id);
        le_add_u64(out, (uint64_t)p->wall_ms);
        le_add_u32(out, (uint32_t)p->n_seen);
        le_add_u32(out, 0);
        for (size_t k = 0; k < p->n_seen; k++) {
            le_add_u64(out, p->seen[k].first);
            le_add_u64(out, p->seen[k].last);
        }
    }
    return st->publishers.n;
}

bool publishers_load(struct stream *st, const unsigned char *p, size_t n)
{
    uint32_t n_publishers, n_seen, zero;
    uint64_t id, wall_ms, first, last;
    if (!take_u32(&p, &n, &n_publishers))
        return false;
    while (n_publishers--) {
        if (!take_u64(&p, &n, &id) || !take_u64(&p, &n, &wall_ms) || !take_u32(&p, &n, &n_seen) || !take_u32(&p, &n, &zero))
            return false;
        struct publisher *pub = publisher_get(st, id, (int64_t)wall_ms);
        while (n_seen--) {
            if (!take_u64(&p, &n, &first) || !take_u64(&p, &n, &last) || first > last)
                return false;
            publisher_saw(pub, first, last);
        }
    }
    return true;
}
