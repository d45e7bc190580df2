/* What the store should have and has not: the marks (mark.h) say how far each stream was confirmed, the log how far it is there.
 *
 *   the log ends before the mark      the end was lost, or an older copy of state/broker was put in its place: sequences go on
 *                                     behind the mark, and what is between is lost, and counted
 *   messages were done that are not   the same, where there is no mark
 *   sequences are missing in between  lost to damage, and counted
 *   the marks are a copy, or none     nobody knows what was confirmed
 *   the store is damaged              where the mark is a little behind (after a power cut) it does not show what was lost
 *
 * In any of these a stream begins a new epoch (epoch.c), so that no message ever gets the _id of one that was lost and may be
 * stored. What is there keeps its epoch, and is delivered again unless it is known to be done: that stores nothing twice. A stream
 * or a subscription whose records are all lost is made anew, to say what it had.
 *
 * What begins is written down before anything is published; on a full disk publishing waits for it. */
#include "queue_parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- keeping the marks ---- */

void stream_touch(struct stream *st)
{
    if (st->touched || st->q->replaying)
        return;
    st->touched = true;
    st->next_touched = st->q->touched_streams;
    st->q->touched_streams = st;
}

void sub_touch(struct sub *s)
{
    struct queues *q = s->stream->q;
    if (s->touched || q->replaying)
        return;
    s->touched = true;
    s->next_touched = q->touched_subs;
    q->touched_subs = s;
}

static void put_stream(struct stream *st)
{
    struct mark v = {.kind = MARK_STREAM, .next = st->next_seq};
    if (strlen(st->name) >= MARK_NAME)
        return;
    strcpy(v.name, st->name);
    memcpy(v.epoch, stream_epoch(st), sizeof v.epoch);
    st->slot = marks_put(st->q->marks, st->slot, &v);
}

static void put_sub(struct sub *s)
{
    struct mark v = {.kind = MARK_SUB, .of = s->stream->slot, .next = s->floor, .more = s->shared_below};
    if (strlen(s->name) >= MARK_NAME || !v.of)
        return;
    strcpy(v.name, s->name);
    s->slot = marks_put(s->stream->q->marks, s->slot, &v);
}

void queues_mark(struct queues *q)
{
    for (struct stream *st; (st = q->touched_streams);) {
        q->touched_streams = st->next_touched;
        st->touched = false;
        put_stream(st);
    }
    for (struct sub *s; (s = q->touched_subs);) {
        q->touched_subs = s->next_touched;
        s->touched = false;
        put_sub(s);
    }
}

/* Before the store forgets it: or it would be missed. */
void sub_unmark(struct sub *s)
{
    for (struct sub **at = &s->stream->q->touched_subs; *at; at = &(*at)->next_touched)
        if (*at == s) {
            *at = s->next_touched;
            break;
        }
    marks_drop(s->stream->q->marks, s->slot);
}

void stream_unmark(struct stream *st)
{
    for (struct stream **at = &st->q->touched_streams; *at; at = &(*at)->next_touched)
        if (*at == st) {
            *at = st->next_touched;
            break;
        }
    for (size_t i = 0; i < st->n_subs; i++)
        sub_unmark(st->subs[i]);
    marks_drop(st->q->marks, st->slot);
    marks_sync(st->q->marks);
}

/* ---- gaps ---- */

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

bool gaps_replay(struct stream *st, const unsigned char *p, size_t n)
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

/* How many of them the subscription should still have got. They are done, or count as missing from its cursor on. */
static uint64_t count_lost(struct sub *s, struct range r)
{
    const struct mark *v = s->slot ? marks_at(s->stream->q->marks, s->slot) : NULL;
    uint64_t seq = r.first, done_below = v ? v->next : 0, n = 0;
    for (struct slot *t; (t = sub_next_slot(s, &seq, r.last)); seq++)
        if (t->state != SLOT_DONE && t->state != SLOT_DEAD) {
            sub_set_state(s, seq, t, SLOT_DONE);
            n += seq >= done_below;
        }
    uint64_t first = s->cursor > done_below ? s->cursor : done_below;
    first = first > r.first ? first : r.first;
    n += first <= r.last ? r.last - first + 1 : 0;
    s->lost += n;
    return n;
}

/* A gap, or the part of one that is known or not. */
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

/* True when there are gaps that were not known. */
static bool count_gaps(struct stream *st)
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

/* ---- opening ---- */

static void attach_stream(struct queues *q, uint32_t slot, const struct mark *v)
{
    struct stream *st = queues_stream(q, v->name);
    if (!strchr(v->name, '/') || (!st && v->next <= 1) || (st && st->slot)) {
        marks_drop(q->marks, slot);
        return;
    }
    if (!st) {
        st = stream_new(q, v->name, q->next_id);
        stream_begin_epoch(st);
        map_put(&q->streams, v->name, st);
        register_id(q, 's', st->id, st);
    }
    st->slot = slot;
}

static void attach_sub(struct queues *q, uint32_t slot, const struct mark *v)
{
    const struct mark *of = marks_at(q->marks, v->of);
    struct stream *st = of && of->kind == MARK_STREAM ? queues_stream(q, of->name) : NULL;
    struct sub *s = st ? stream_sub(st, v->name) : NULL;
    if (!st || st->slot != v->of || !v->next || (s && s->slot)) {
        marks_drop(q->marks, slot);
        return;
    }
    if (!s) {
        uint64_t end = of->next > st->next_seq ? of->next : st->next_seq;
        st->subs = xrealloc(st->subs, (st->n_subs + 1) * sizeof(struct sub *));
        s = st->subs[st->n_subs++] = sub_new(st, v->name, q->next_id, v->next < end ? v->next : end);
        s->shared_below = v->more;
        st->unsaved = true;
    }
    s->slot = slot;
}

static void attach(struct queues *q, enum mark_kind kind, void (*fn)(struct queues *q, uint32_t slot, const struct mark *v))
{
    const struct mark *v;
    for (uint32_t slot = 1; (v = marks_at(q->marks, slot)); slot++)
        if (v->kind == kind)
            fn(q, slot, v);
}

/* True when it begins a new epoch. */
static bool recover_stream(struct stream *st, bool doubt)
{
    const struct mark *v = st->slot ? marks_at(st->q->marks, st->slot) : NULL;
    uint64_t next = v ? v->next : 1;
    for (size_t i = 0; i < st->n_subs; i++) /* what became of messages that are lost may be there */
        next = st->subs[i]->cursor > next ? st->subs[i]->cursor : next;
    bool anew = doubt || !v || next > st->next_seq || memcmp(v->epoch, stream_epoch(st), QUEUE_EPOCH) != 0;
    if (next > st->next_seq)
        st->next_seq = next;
    if (anew)
        stream_begin_epoch(st);
    st->unsaved |= count_gaps(st) || anew;
    for (size_t i = 0; i < st->n_subs; i++)
        if (st->subs[i]->shared_below == SHARED_NOT_SET) {
            st->subs[i]->shared_below = st->next_seq;
            st->unsaved = true;
        }
    return anew;
}

static bool save_record(struct queues *q, int type, struct buf *b)
{
    struct iovec part = {b->p, b->n};
    bool ok = store_append(q->store, type, &part, 1, true, NULL) == 0;
    b->n = 0;
    return ok;
}

/* Epochs first: replay takes a REC_STREAM of an unknown epoch for one that begins there. */
static bool save(struct stream *st)
{
    AUTO_BUF struct buf b = {0};
    epochs_record(st, &b);
    bool ok = save_record(st->q, REC_EPOCHS, &b);
    stream_record(st, &b);
    ok = ok && save_record(st->q, REC_STREAM, &b);
    gaps_record(st, &b);
    ok = ok && save_record(st->q, REC_GAPS, &b);
    for (size_t i = 0; ok && i < st->n_subs; i++) {
        sub_record(st->subs[i], &b);
        ok = save_record(st->q, REC_SUB, &b);
    }
    return ok;
}

bool queues_settle(struct queues *q)
{
    size_t i = 0, k;
    bool ok = true;
    for (struct stream *st; ok && (st = map_next(&q->streams, &i));) {
        ok = !st->unsaved || save(st);
        st->unsaved = !ok;
    }
    q->unsettled = !ok;
    if (!ok)
        return false;
    store_commit(q->store, true);
    i = 0;
    for (struct stream *st; (st = map_next(&q->streams, &i));) {
        put_stream(st);
        k = 0;
        for (struct sub *s; (s = stream_next_sub(st, &k));)
            put_sub(s);
    }
    marks_vouch(q->marks, store_newest(q->store), store_damage(q->store));
    return true;
}

static void tell_loss(const struct stream *st)
{
    if (st->loss.n)
        log_error("messages_lost", NULL, NULL,
                  "stream %s: %" PRIu64 " messages that were confirmed, from %" PRIu64 " to %" PRIu64
                  ", are not in the store: it was damaged, or an older copy was restored; `mysimbdp queue list` counts them by app",
                  st->name, st->loss.n, st->loss.first, st->loss.last);
}

void queues_recover(struct queues *q)
{
    size_t i = 0, n = 0;
    uint64_t damage = store_damage(q->store);
    bool any = marks_at(q->marks, 1) != NULL, is_known = marks_are_original(q->marks);
    bool doubt = !is_known || (damage && damage != marks_known_damage(q->marks));
    attach(q, MARK_STREAM, attach_stream);
    attach(q, MARK_SUB, attach_sub);
    for (struct stream *st; (st = map_next(&q->streams, &i));) {
        n += recover_stream(st, doubt);
        tell_loss(st);
    }
    if (n)
        log_warn("new_epochs", NULL, NULL, "%zu streams begin new epochs: %s", n,
                 !any        ? "there is no record of what was confirmed (an upgrade, or state/broker.mark is gone)"
                 : !is_known ? "state/broker.mark is a copy: the state was restored, or moved to another file system"
                 : doubt     ? "the store is damaged"
                             : "the store ends before what was confirmed, or their marks are damaged");
    queues_settle(q);
}
