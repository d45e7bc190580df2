/* Which epoch a message has for a subscription: half of the _id that its rows are stored under (docs/wire.md), the same whenever it
 * is delivered.
 *
 * A stream has a random one, and begins another where it cannot be shown that sequences go on where they ended (recover.c). A
 * subscription's is made of that and its name, so that two apps may store what they make of one stream into one collection, and
 * one that is made anew under its old name finds its rows again. Subscriptions of earlier versions had the stream's own; what was
 * published until they were first opened by a version that knows this (`shared_below`) keeps it: some of it may be stored, and not
 * be acknowledged yet. */
#include "parts.h"

#include "base/mem.h"

#include <sodium.h>
#include <string.h>

const unsigned char *stream_epoch(const struct stream *st)
{
    return st->eras[st->n_eras - 1].epoch;
}

static void add_era(struct stream *st, uint64_t first, const unsigned char epoch[EPOCH_BYTES])
{
    if (st->n_eras && st->eras[st->n_eras - 1].first >= first)
        st->n_eras--; /* the last era has no message */
    st->eras = xrealloc(st->eras, (st->n_eras + 1) * sizeof *st->eras);
    struct era *v = &st->eras[st->n_eras];
    v->first = st->n_eras++ ? first : 1;
    memcpy(v->epoch, epoch, EPOCH_BYTES);
}

void stream_begin_epoch(struct stream *st)
{
    unsigned char epoch[EPOCH_BYTES];
    randombytes_buf(epoch, sizeof epoch);
    add_era(st, st->next_seq, epoch);
}

void stream_set_epoch(struct stream *st, const unsigned char epoch[EPOCH_BYTES])
{
    unsigned char copy[EPOCH_BYTES]; /* it may be the stream's own */
    memcpy(copy, epoch, sizeof copy);
    st->n_eras = 0;
    add_era(st, 1, copy);
}

void stream_load_epoch(struct stream *st, const unsigned char epoch[EPOCH_BYTES], uint64_t next_seq)
{
    if (!st->n_eras || memcmp(stream_epoch(st), epoch, EPOCH_BYTES) != 0)
        add_era(st, next_seq, epoch);
}

/* Forgets those that end before the oldest message. */
static void trim(struct stream *st)
{
    uint64_t oldest = st->n_kept ? st->kept[0].first : st->head < st->n ? st->extents[st->head].first : st->next_seq;
    size_t n = 0;
    while (n + 1 < st->n_eras && st->eras[n + 1].first <= oldest)
        n++;
    st->n_eras -= n;
    memmove(st->eras, st->eras + n, st->n_eras * sizeof *st->eras);
}

void epochs_record(struct stream *st, struct buf *out)
{
    trim(st);
    le_add_u32(out, st->id);
    le_add_u32(out, (uint32_t)st->n_eras);
    for (size_t i = 0; i < st->n_eras; i++) {
        le_add_u64(out, st->eras[i].first);
        buf_add(out, st->eras[i].epoch, EPOCH_BYTES);
    }
}

bool epochs_load(struct stream *st, const unsigned char *p, size_t n)
{
    uint32_t n_eras;
    if (!take_u32(&p, &n, &n_eras) || !n_eras || n != n_eras * (sizeof(uint64_t) + EPOCH_BYTES))
        return false;
    st->n_eras = 0;
    for (uint64_t first; take_u64(&p, &n, &first); p += EPOCH_BYTES, n -= EPOCH_BYTES)
        add_era(st, first, p);
    return true;
}

struct range sub_epoch(const struct sub *s, uint64_t seq, unsigned char ret[EPOCH_BYTES])
{
    const struct stream *st = s->stream;
    size_t i = st->n_eras - 1;
    while (i > 0 && st->eras[i].first > seq)
        i--;
    const unsigned char *epoch = st->eras[i].epoch;
    struct range same = {i ? st->eras[i].first : 1, i + 1 < st->n_eras ? st->eras[i + 1].first - 1 : UINT64_MAX};
    if (seq < s->shared_below) {
        memcpy(ret, epoch, EPOCH_BYTES);
        same.last = same.last < s->shared_below ? same.last : s->shared_below - 1;
    } else {
        crypto_generichash(ret, EPOCH_BYTES, (const unsigned char *)s->name, strlen(s->name), epoch, EPOCH_BYTES);
        same.first = same.first > s->shared_below ? same.first : s->shared_below;
    }
    return same;
}
