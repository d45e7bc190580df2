#include "parts.h"

#include <sodium.h>
#include <string.h>

void tally_next_line(struct tally *t)
{
    randombytes_buf(&t->line, sizeof t->line);
    t->changed = true;
}

void tally_told(struct tally *t)
{
    memcpy(t->told, t->v, sizeof t->told);
    tally_next_line(t);
}

uint64_t tally_untold(const struct tally *t, enum tally_count c)
{
    return t->v[c] > t->told[c] ? t->v[c] - t->told[c] : 0;
}

bool tally_is_told(const struct tally *t)
{
    return !memcmp(t->v, t->told, sizeof t->v);
}

void tally_record(const struct tally *t, uint32_t id, struct buf *out)
{
    le_add_u32(out, id);
    le_add_u32(out, N_TALLY);
    le_add_u64(out, t->line);
    for (int c = 0; c < N_TALLY; c++) {
        le_add_u64(out, t->v[c]);
        le_add_u64(out, t->told[c]);
    }
}

bool tally_load(struct tally *t, const unsigned char *p, size_t n)
{
    if (n < 12 || (n - 12) % 16 || le_u32(p) != (n - 12) / 16)
        return false;
    t->line = le_u64(p + 4);
    for (size_t c = 0; c < N_TALLY && c < (n - 12) / 16; c++) {
        t->v[c] = le_u64(p + 12 + c * 16);
        t->told[c] = le_u64(p + 20 + c * 16);
    }
    return true;
}

/* ---- of streams and subscriptions ---- */

const struct tally *stream_tally(const struct stream *st)
{
    return &st->tally;
}

void stream_tally_told(struct stream *st)
{
    tally_told(&st->tally);
    stream_touch(st);
}

void stream_count(struct stream *st, enum tally_count c, uint64_t n)
{
    st->tally.v[c] += n;
    st->tally.changed = true;
    stream_touch(st);
}

void stream_count_refusal(struct stream *st)
{
    st->tally.v[TALLY_REFUSED]++;
    st->tally.changed = true;
}

const struct tally *sub_tally(const struct sub *s)
{
    return &s->tally;
}

void sub_tally_told(struct sub *s)
{
    tally_told(&s->tally);
    sub_touch(s);
}

void sub_count(struct sub *s, enum tally_count c, uint64_t n)
{
    if (!n || s->stream->all->loading)
        return;
    s->tally.v[c] += n;
    s->tally.changed = true;
    sub_touch(s);
}

void tally_append(struct streams *all, struct tally *t, uint32_t id)
{
    AUTO_BUF struct buf b = {0};
    if (!t->line)
        tally_next_line(t);
    tally_record(t, id, &b);
    log_event(all, REC_TALLY, b.p, b.n);
    t->changed = false;
}

void streams_record_tallies(struct streams *all)
{
    for (struct stream *st = all->touched_streams; st; st = st->next_touched)
        if (st->tally.changed)
            tally_append(all, &st->tally, st->id);
    for (struct sub *s = all->touched_subs; s; s = s->next_touched)
        if (s->tally.changed)
            tally_append(all, &s->tally, s->id);
}

bool streams_record_refusals(struct streams *all)
{
    size_t i = 0;
    bool any = false;
    if (streams_full(all)) /* what room there is is for acks */
        return false;
    for (struct stream *st; (st = map_next(&all->streams, &i));)
        if (st->tally.changed) {
            stream_touch(st);
            any = true;
        }
    return any;
}
