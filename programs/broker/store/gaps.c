/* Sequences of a stream that are lost: found when it is opened, counted once, and written down so that the next program does not
 * count them again. */
#include "parts.h"

#include "base/mem.h"

#include <string.h>

uint64_t stream_n_missing(const struct stream *st, uint64_t from, uint64_t to)
{
    uint64_t n = 0;
    for (size_t i = 0; i < st->n_gaps; i++) {
        uint64_t first = st->gaps[i].first > from ? st->gaps[i].first : from,
                 end = st->gaps[i].last + 1 < to ? st->gaps[i].last + 1 : to;
        n += first < end ? end - first : 0;
    }
    return n;
}

void gaps_record(const struct stream *st, struct buf *out)
{
    le_add_u32(out, st->id);
    le_add_u32(out, (uint32_t)st->n_gaps);
    for (size_t i = 0; i < st->n_gaps; i++) {
        le_add_u64(out, st->gaps[i].first);
        le_add_u64(out, st->gaps[i].last);
    }
}

static void set_gaps(struct stream *st, const struct range *v, size_t n)
{
    st->gaps = xrealloc(st->gaps, (n + 1) * sizeof *v);
    if (n)
        memcpy(st->gaps, v, n * sizeof *v);
    st->n_gaps = n;
}

bool gaps_load(struct stream *st, const unsigned char *p, size_t n)
{
    uint32_t n_gaps;
    AUTO_BUF struct buf v = {0};
    if (!take_u32(&p, &n, &n_gaps) || n != n_gaps * sizeof(struct range))
        return false;
    for (struct range r; n_gaps-- && take_u64(&p, &n, &r.first) && take_u64(&p, &n, &r.last);)
        if (r.first <= r.last)
            buf_add(&v, &r, sizeof r);
    set_gaps(st, (const struct range *)v.p, v.n / sizeof(struct range));
    return true;
}

void gaps_add(struct stream *st, uint64_t n)
{
    AUTO_BUF struct buf b = {0};
    struct range *last;
    uint64_t first = st->next_seq, floor = first;
    size_t gone = 0;
    for (size_t i = 0; i < st->n_subs; i++)
        floor = st->subs[i]->floor < floor ? st->subs[i]->floor : floor;
    while (gone < st->n_gaps && st->gaps[gone].last < floor)
        gone++;
    st->n_gaps -= gone;
    if (gone)
        memmove(st->gaps, st->gaps + gone, st->n_gaps * sizeof *st->gaps);
    last = st->n_gaps ? &st->gaps[st->n_gaps - 1] : NULL;
    if (last && last->last + 1 == first) {
        last->last += n;
    } else {
        st->gaps = xgrow(st->gaps, st->n_gaps, sizeof *st->gaps);
        st->gaps[st->n_gaps++] = (struct range){first, first + n - 1};
    }
    st->next_seq += n;
    gaps_record(st, &b);
    log_event(st->all, REC_GAPS, b.p, b.n);
    b.n = 0;
    stream_record(st, &b); /* with the sequence behind it */
    log_event(st->all, REC_STREAM, b.p, b.n);
    stream_touch(st);
}

static void add_gap(struct buf *out, uint64_t first, uint64_t end)
{
    if (first < end)
        buf_add(out, &(struct range){first, end - 1}, sizeof(struct range));
}

/* The sequences that are not there, from the first that somebody needs. */
static void find_gaps(const struct stream *st, struct buf *out)
{
    uint64_t at = st->n_subs ? st->next_seq : st->head < st->n ? st->extents[st->head].first : st->next_seq;
    struct {
        const struct extent *v;
        size_t from, to;
    } both[] = {{st->kept, 0, st->n_kept}, {st->extents, st->head, st->n}};
    for (size_t i = 0; i < st->n_subs; i++)
        at = st->subs[i]->floor < at ? st->subs[i]->floor : at;
    for (int k = 0; k < 2; k++)
        for (size_t i = both[k].from; i < both[k].to; i++) {
            const struct extent *x = &both[k].v[i];
            if (x->first + x->n <= at)
                continue;
            add_gap(out, at, x->first);
            at = x->first + x->n;
        }
    add_gap(out, at, st->next_seq);
}

/* How many of a gap the subscription should still have got. Those with a slot are done then; those beyond the cursor are skipped
 * when it comes there. */
static uint64_t count_lost(struct sub *s, struct range r)
{
    const struct mark *v = s->slot ? marks_at(s->stream->all->marks, s->slot) : NULL;
    uint64_t seq = r.first, done_below = v ? v->next : 0, n = 0;
    for (struct slot *t; (t = sub_next_slot(s, &seq, r.last)); seq++)
        if (t->state != SLOT_DONE && t->state != SLOT_DEAD) {
            sub_set_state(s, seq, t, SLOT_DONE);
            n += seq >= done_below;
        }
    uint64_t first = s->cursor > done_below ? s->cursor : done_below;
    first = first > r.first ? first : r.first;
    n += first <= r.last ? r.last - first + 1 : 0;
    s->lost += s->stream->mirror ? 0 : n; /* there was nothing for anybody in a mirror's */
    return n;
}

/* known: an earlier start has counted this gap already. */
static void count_part(struct stream *st, struct range r, bool known)
{
    uint64_t n = st->n_subs ? 0 : r.last - r.first + 1;
    for (size_t i = 0; i < st->n_subs; i++) {
        uint64_t lost = count_lost(st->subs[i], r);
        n = lost > n ? lost : n;
    }
    if (known || !n)
        return;
    st->loss.first = st->loss.n && st->loss.first < r.first ? st->loss.first : r.first;
    st->loss.last = r.last > st->loss.last ? r.last : st->loss.last;
    st->loss.n += n;
}

bool gaps_count(struct stream *st)
{
    AUTO_BUF struct buf found = {0};
    bool any = false;
    find_gaps(st, &found);
    const struct range *v = (const struct range *)found.p;
    size_t n = found.n / sizeof *v, k = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t at = v[i].first;
        while (k < st->n_gaps && st->gaps[k].last < at)
            k++;
        for (size_t j = k; at <= v[i].last; j++) {
            struct range known = j < st->n_gaps ? st->gaps[j] : (struct range){UINT64_MAX, UINT64_MAX};
            uint64_t first = known.first < v[i].last + 1 ? known.first : v[i].last + 1,
                     last = known.last < v[i].last ? known.last : v[i].last;
            if (at < first) {
                count_part(st, (struct range){at, first - 1}, false);
                any = true;
                at = first;
            }
            if (at <= last && first <= v[i].last) {
                count_part(st, (struct range){at, last}, true);
                at = last + 1;
            }
        }
    }
    set_gaps(st, v, n);
    for (size_t i = 0; n && i < st->n_subs; i++)
        sub_finish(st->subs[i]);
    return any;
}
