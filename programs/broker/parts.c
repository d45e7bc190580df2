#include "parts.h"

#include "kafka.h"

#include "base/le.h"
#include "base/mem.h"
#include "wire/murmur2.h"

#include <stdlib.h>
#include <string.h>

/* ---- which there are ---- */

uint32_t parts_of_name(const char *full, size_t *ret_n)
{
    const char *hash = strchr(full, '#');
    *ret_n = hash ? (size_t)(hash - full) : strlen(full);
    return hash ? (uint32_t)strtoul(hash + 1, NULL, 10) : 0;
}

void parts_add(struct broker_stream *whole, struct broker_stream *st, uint32_t part)
{
    size_t i = 0;
    if (part >= whole->n_parts) {
        whole->parts = xrealloc(whole->parts, (part + 1) * sizeof(struct broker_stream *));
        memset(whole->parts + whole->n_parts, 0, (part + 1 - whole->n_parts) * sizeof(struct broker_stream *));
        whole->n_parts = part + 1;
    }
    whole->parts[part] = st;
    st->whole = whole;
    st->part = part;
    for (struct sub *s; (s = stream_next_sub(st->stream, &i));) {
        struct sub *first = stream_sub(whole->stream, sub_name(s));
        if (sub_tag(s))
            ((struct broker_sub *)sub_tag(s))->whole = first && sub_tag(first) ? sub_tag(first) : sub_tag(s);
    }
}

void parts_remove(struct broker_stream *st)
{
    size_t i = 0;
    if (st->whole != st) {
        st->whole->parts[st->part] = NULL;
        return;
    }
    for (struct broker_stream *part; (part = parts_next(st, &i));)
        part->whole = part;
    free(st->parts);
}

struct broker_stream *parts_next(const struct broker_stream *whole, size_t *i)
{
    while (*i < whole->n_parts)
        if (whole->parts[(*i)++])
            return whole->parts[*i - 1];
    return NULL;
}

struct broker_sub *parts_sub(const struct broker_sub *whole, size_t part)
{
    const struct broker_stream *st = whole->stream;
    struct sub *s = part < st->n_parts && st->parts[part] ? stream_sub(st->parts[part]->stream, sub_name(whole->sub)) : NULL;
    return s ? sub_tag(s) : NULL;
}

struct broker_stream *parts_by_seq(const struct broker_stream *whole, uint64_t *seq)
{
    uint64_t part = whole->n_parts > 1 ? *seq >> PART_SHIFT : 0;
    if (part >= whole->n_parts)
        return NULL;
    if (whole->n_parts > 1)
        *seq &= (1ULL << PART_SHIFT) - 1;
    return whole->parts[part];
}

/* ---- where to ---- */

static bool knows(const struct broker_stream *st, uint64_t publisher)
{
    return st && stream_knows_publisher(st->stream, publisher);
}

static struct broker_stream *by_hash(const struct broker_stream *whole, const void *p, size_t n)
{
    return whole->parts[murmur2_partition(p, n, (uint32_t)whole->n_parts)];
}

struct broker_stream *parts_route(struct broker_stream *whole, const struct wire_request *rq)
{
    const uint64_t publisher = rq->publisher;
    AUTO_BUF struct buf id = {0};
    if (whole->n_parts == 1)
        return whole;
    if (rq->n_key)
        return by_hash(whole, rq->key, rq->n_key);
    if (!publisher)
        return whole->parts[whole->next_part++ % whole->n_parts];
    le_add_u64(&id, publisher);
    struct broker_stream *st = by_hash(whole, id.p, id.n);
    for (size_t i = 0; !knows(st, publisher) && i < whole->n_parts; i++) /* since when there were fewer */
        if (knows(whole->parts[i], publisher))
            return whole->parts[i];
    return st;
}

int64_t parts_share(const struct broker_stream *whole, int64_t limit)
{
    const int64_t n = (int64_t)whole->n_parts, here = kafka_n_here(whole);
    if (limit < 0 || here == n)
        return limit;
    int64_t share = limit / n * here + limit % n * here / n;
    return share || !here || !limit ? share : 1;
}

/* ---- sums ---- */

void parts_figures(const struct broker_stream *whole, struct stream_figures *ret)
{
    struct stream_figures f;
    size_t i = 0;
    *ret = (struct stream_figures){1, 1, 0};
    for (const struct broker_stream *st; (st = parts_next(whole, &i));) {
        stream_figures(st->stream, &f);
        ret->next_seq += f.next_seq - 1;
        ret->first_seq += f.first_seq - 1;
        ret->bytes += f.bytes;
    }
}

void parts_sub_figures(const struct broker_sub *whole, struct sub_figures *ret)
{
    struct sub_figures f;
    sub_figures(whole->sub, ret);
    for (size_t i = 1; i < whole->stream->n_parts; i++) {
        const struct broker_sub *bs = parts_sub(whole, i);
        if (!bs)
            continue;
        sub_figures(bs->sub, &f);
        ret->ready += f.ready;
        ret->leased += f.leased;
        ret->delayed += f.delayed;
        ret->dead += f.dead;
        ret->acked += f.acked;
        ret->redelivered += f.redelivered;
        ret->lost += f.lost;
        ret->expired += f.expired;
        ret->rejected += f.rejected;
        if (f.oldest_wall_ms && (!ret->oldest_wall_ms || f.oldest_wall_ms < ret->oldest_wall_ms))
            ret->oldest_wall_ms = f.oldest_wall_ms;
    }
}

uint64_t parts_tally(const struct broker_stream *whole, enum tally_count c)
{
    uint64_t n = 0;
    size_t i = 0;
    for (const struct broker_stream *st; (st = parts_next(whole, &i));)
        n += stream_tally(st->stream)->v[c];
    return n;
}

uint64_t parts_sub_tally(const struct broker_sub *whole, enum tally_count c)
{
    uint64_t n = 0;
    for (size_t i = 0; i < whole->stream->n_parts; i++) {
        const struct broker_sub *bs = parts_sub(whole, i);
        n += bs ? sub_tally(bs->sub)->v[c] : 0;
    }
    return n;
}

double parts_in_per_s(const struct broker_stream *whole)
{
    double n = 0;
    size_t i = 0;
    for (const struct broker_stream *st; (st = parts_next(whole, &i));)
        n += st->in_per_s;
    return n;
}

double parts_acked_per_s(const struct broker_sub *whole)
{
    double n = 0;
    for (size_t i = 0; i < whole->stream->n_parts; i++) {
        const struct broker_sub *bs = parts_sub(whole, i);
        n += bs ? bs->acked_per_s : 0;
    }
    return n;
}

bool parts_wait_for_suspects(const struct broker_sub *bs)
{
    if (bs->stream->whole->n_parts == 1 || sub_has_suspects(bs->sub))
        return false;
    for (size_t i = 0; i < bs->whole->stream->n_parts; i++) {
        const struct broker_sub *other = parts_sub(bs->whole, i);
        if (other && sub_has_suspects(other->sub))
            return true;
    }
    return false;
}
