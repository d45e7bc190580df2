/* What is no longer kept: messages and dead letters that are too old, publishers that were not heard of for long, and records that
 * no subscription needs any more. */
#include "parts.h"

#include "base/mem.h"

/* ---- age ---- */

static void expire_messages(struct sub *s, uint64_t first)
{
    if (first <= s->floor)
        return;
    if (s->cursor < first) {
        s->expired += first - s->cursor - stream_n_missing(s->stream, s->cursor, first);
        sub_advance(s, first);
    }
    uint64_t seq = s->floor;
    for (struct slot *t; (t = sub_next_slot(s, &seq, first - 1)); seq++)
        if (t->state != SLOT_DONE && t->state != SLOT_DEAD) {
            s->expired += t->deliveries > 0;
            sub_set_state(s, seq, t, SLOT_DONE);
        }
    sub_advance_floor(s);
}

static void expire_dead(struct sub *s, int64_t wall_ms)
{
    struct dead_letter d;
    for (uint64_t seq = 1; sub_next_dead(s, seq, &d); seq = d.seq + 1)
        if (d.wall_ms < wall_ms)
            sub_drop_dead(s, d.seq);
}

void expired_load(struct stream *st, uint64_t first)
{
    for (size_t i = 0; i < st->n_subs; i++)
        expire_messages(st->subs[i], first);
    if (!st->n_subs)
        while (st->head < st->n && extent_last(&st->extents[st->head]) < first)
            extent_give_back(st, &st->extents[st->head++]);
    stream_trim(st);
}

void stream_apply_retention(struct stream *st, int64_t wall_ms, int64_t dead_wall_ms, int64_t seen_wall_ms)
{
    size_t i = st->head;
    while (i < st->n && (int64_t)st->extents[i].wall_s * 1000 + 999 < wall_ms)
        i++;
    if (i > st->head) {
        uint64_t first = extent_last(&st->extents[i - 1]) + 1;
        AUTO_BUF struct buf b = {0};
        le_add_u32(&b, st->id);
        le_add_u32(&b, 0);
        le_add_u64(&b, first);
        log_event(st->all, REC_EXPIRED, b.p, b.n);
        expired_load(st, first);
    }
    for (i = 0; i < st->n_subs; i++)
        expire_dead(st->subs[i], dead_wall_ms);
    stream_trim_kept(st);
    publishers_forget(st, seen_wall_ms);
}

/* ---- need ---- */

static bool needs(const struct sub *s, uint64_t first, uint64_t last)
{
    if (last >= s->cursor)
        return true;
    uint64_t seq = first;
    for (const struct slot *t; (t = sub_next_slot(s, &seq, last)); seq++)
        if (t->state != SLOT_DONE)
            return true;
    size_t i = sub_dead_at(s, first);
    return i < s->n_dead && s->dead[i].seq <= last;
}

static bool is_needed(const struct stream *st, const struct extent *x)
{
    for (size_t i = 0; i < st->n_subs; i++)
        if (needs(st->subs[i], x->first, extent_last(x)))
            return true;
    return !st->n_subs;
}

void stream_trim(struct stream *st)
{
    uint64_t floor = st->next_seq;
    for (size_t i = 0; i < st->n_subs; i++)
        if (st->subs[i]->floor < floor)
            floor = st->subs[i]->floor;
    if (!st->n_subs)
        return; /* messages wait for the first subscription, or until they are too old */
    while (st->head < st->n && extent_last(&st->extents[st->head]) < floor) {
        struct extent x = st->extents[st->head++];
        if (is_needed(st, &x)) {
            st->kept = xgrow(st->kept, st->n_kept, sizeof *st->kept);
            st->kept[st->n_kept++] = x;
        } else {
            extent_give_back(st, &x);
        }
    }
    if (st->head == st->n)
        st->head = st->n = 0;
}

void stream_trim_kept(struct stream *st)
{
    stream_trim(st);
    if (!st->look_at_kept)
        return;
    st->look_at_kept = false;
    size_t n = 0;
    for (size_t i = 0; i < st->n_kept; i++)
        if (is_needed(st, &st->kept[i]))
            st->kept[n++] = st->kept[i];
        else
            extent_give_back(st, &st->kept[i]);
    st->n_kept = n;
}
