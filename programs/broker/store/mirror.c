/* Streams whose messages are kept elsewhere (in a topic of Kafka's), in an order and at positions that nobody changes: what is here
 * is a copy of what is not done yet, and may be lost.
 *
 * Sequences and the epoch follow from positions and from what was written down there, so that a store that is made anew gives each
 * message the _id that it had. Whether a message was sent before is found here, too, and not where it is published: the same
 * messages come in the same order to every store, so all of them pass over the same ones. A message that reached its place late,
 * long after its publisher sent it again, is passed over like any other.
 *
 *   the log of a mirror is damaged, a copy, or ends before what is known of it    it is dropped, and made anew of what it mirrors:
 *                                                                                 redeliveries, and nothing is lost
 *   the same, but messages from before it became a mirror are in it               it is treated as any stream (recover.c) */
#include "parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { RUN_MESSAGES = 4096 };

bool stream_is_mirror(const struct stream *st)
{
    return st->mirror;
}

uint64_t stream_base(const struct stream *st)
{
    return st->base;
}

int64_t stream_newest_wall_ms(const struct stream *st)
{
    return st->newest_wall_ms;
}

/* ---- what is written down ---- */

void mirror_record(const struct stream *st, struct buf *out)
{
    le_add_u32(out, st->id);
    le_add_u32(out, st->mirror);
    le_add_u64(out, st->base);
}

bool mirror_load(struct stream *st, const unsigned char *p, size_t n)
{
    uint32_t mirror;
    uint64_t base;
    if (!take_u32(&p, &n, &mirror) || !take_u64(&p, &n, &base))
        return false;
    st->mirror = mirror != 0;
    st->base = base;
    return true;
}

static int save(struct stream *st)
{
    st->unsaved = st->all->unsaved = true;
    return streams_save_recovered(st->all) ? 0 : -ENOSPC;
}

int stream_set_mirror(struct stream *st, bool mirror, uint64_t base, bool anew)
{
    st->mirror = mirror;
    st->base = base;
    if (anew)
        stream_begin_epoch(st);
    return save(st);
}

bool stream_is_pristine(const struct stream *st)
{
    return st->next_seq == 1;
}

int stream_adopt(struct stream *st, const unsigned char epoch[EPOCH_BYTES], uint64_t base, uint64_t next_seq)
{
    assert(stream_is_pristine(st));
    st->mirror = true;
    st->base = base;
    st->next_seq = next_seq;
    stream_set_epoch(st, epoch);
    for (size_t i = 0; i < st->n_subs; i++)
        st->subs[i]->floor = st->subs[i]->cursor = next_seq;
    return save(st);
}

/* ---- the start ---- */

/* Something is in it that is nowhere else. */
static bool has_its_own(const struct stream *st)
{
    const struct extent *x = st->n_kept ? st->kept : st->head < st->n ? &st->extents[st->head] : NULL;
    return x && x->first <= st->base;
}

static bool is_doubtful(struct stream *st)
{
    const struct mark *v = st->slot ? marks_at(st->all->marks, st->slot) : NULL;
    uint64_t next = v ? v->next : UINT64_MAX;
    for (size_t i = 0; i < st->n_subs; i++)
        next = st->subs[i]->cursor > next ? st->subs[i]->cursor : next;
    return next > st->next_seq || memcmp(v->epoch, stream_epoch(st), EPOCH_BYTES) != 0 || gaps_count(st);
}

void mirrors_recover(struct streams *all, bool doubt)
{
    size_t i = 0;
    for (struct stream *st; (st = map_next(&all->streams, &i));)
        if (st->mirror && !has_its_own(st) && (doubt || is_doubtful(st))) {
            log_warn("mirror_anew", NULL, NULL,
                     "the broker's copy of stream %s is not certain, and is made anew of what is in Kafka", st->name);
            streams_drop(all, st);
        }
}

/* ---- what comes ---- */

size_t stream_n_known(struct stream *st, uint64_t publisher, uint64_t number, size_t n)
{
    const struct publisher *p = publisher ? publisher_find(st, publisher) : NULL;
    size_t known = 0;
    while (p && known < n && publisher_has_sent(p, number + known))
        known++;
    return known;
}

bool stream_is_done(const struct stream *st)
{
    for (size_t i = 0; i < st->n_subs; i++)
        if (st->subs[i]->floor < st->next_seq || st->subs[i]->n_dead > st->subs[i]->dead_head)
            return false;
    return st->n_subs || st->head == st->n;
}

void stream_count_from(struct stream *st, uint64_t seq)
{
    st->count_from = seq;
}

bool stream_knows_publisher(struct stream *st, uint64_t publisher)
{
    return publisher_find(st, publisher) != NULL;
}

uint64_t stream_lose(struct stream *st, uint64_t next)
{
    uint64_t n = next > st->next_seq ? next - st->next_seq : 0;
    if (n)
        gaps_add(st, n);
    for (size_t i = 0; i < st->n_subs; i++)
        st->subs[i]->lost += n;
    return n;
}

int stream_mirror(struct stream *st, uint64_t seq, uint64_t publisher, uint64_t number, const struct message *v, size_t n,
                  int64_t wall_ms)
{
    assert(st->mirror && seq >= st->next_seq);
    if (seq > st->next_seq)
        gaps_add(st, seq - st->next_seq);
    for (size_t i = 0; i < n;) {
        const struct publisher *p = publisher ? publisher_find(st, publisher) : NULL;
        size_t k = i;
        bool known = publisher_has_sent(p, number + i);
        while (k < n && k - i < RUN_MESSAGES && publisher_has_sent(p, number + k) == known)
            k++;
        int r = known ? 0 : messages_append(st, publisher, number + i, v + i, (uint32_t)(k - i), wall_ms);
        if (r < 0)
            return r;
        if (known)
            gaps_add(st, k - i);
        i = k;
    }
    st->newest_wall_ms = wall_ms > st->newest_wall_ms ? wall_ms : st->newest_wall_ms;
    stream_touch(st);
    return 0;
}

/* ---- where a subscription is ---- */

uint64_t sub_begins(const struct sub *s)
{
    size_t i = sub_dead_at(s, s->stream->base + 1); /* those of before it became a mirror are here alone */
    return i < s->n_dead && s->dead[i].seq < s->floor ? s->dead[i].seq : s->floor;
}

static bool is_done(const struct sub *s, uint64_t seq, size_t *dead)
{
    while (*dead < s->n_dead && s->dead[*dead].seq < seq)
        ++*dead;
    if (*dead < s->n_dead && s->dead[*dead].seq == seq)
        return false;
    if (seq < s->floor)
        return true;
    const struct slot *t = sub_slot_of(s, seq);
    return !t || t->state == SLOT_DONE;
}

void sub_add_done(const struct sub *s, struct buf *out, size_t max)
{
    uint64_t base = s->stream->base, first = 0;
    size_t dead = s->dead_head, most = out->n + max;
    for (uint64_t seq = sub_begins(s); seq <= s->cursor && out->n + 48 < most; seq++) {
        bool done = seq < s->cursor && seq > base && is_done(s, seq, &dead);
        if (done && !first)
            first = seq;
        if (!done && first) {
            buf_addf(out, "%" PRIu64 "-%" PRIu64 ",", first - 1 - base, seq - 2 - base);
            first = 0;
        }
    }
}

void sub_skip(struct sub *s, struct range done)
{
    uint64_t seq = s->cursor;
    done.last = done.last < s->stream->next_seq ? done.last : s->stream->next_seq - 1;
    if (done.last < seq || done.first > done.last)
        return;
    sub_advance(s, done.last + 1);
    for (struct slot *t; (t = sub_next_slot(s, &seq, done.last)); seq++)
        if (seq >= done.first)
            sub_set_state(s, seq, t, SLOT_DONE);
        else
            ring_push(&s->again, seq);
    sub_log_ranges(s, REC_ACK, &(struct range){done.first, done.last}, 1);
    sub_finish(s);
    sub_touch(s);
}
