/* Handing out messages: what a consumer's window allows, suspects first and one by one, then what is to be handed out again, then
 * what is fresh. */
#include "parts.h"

#include "base/mem.h"

/* The first in a ring that is still in the state for which it was put there; 0: none. */
static uint64_t front(struct sub *s, struct ring *r, uint8_t state)
{
    while (r->n) {
        uint64_t seq = r->v[r->head];
        const struct slot *t = seq >= s->floor && seq < s->cursor ? sub_slot_of(s, seq) : NULL;
        if (t && t->state == state)
            return seq;
        ring_pop(r);
    }
    return 0;
}

bool consumer_may_lease(const struct consumer *c)
{
    const struct sub *s = c->sub;
    const struct window *w = c->window;
    if (w->n_leased >= w->max_n || (w->n_leased && (w->alone || w->leased_bytes >= w->max_bytes)))
        return false;
    if (s->n_suspect)
        return !w->n_leased;
    return s->n_again || s->cursor < s->stream->next_seq;
}

struct leasing {
    struct consumer *c;
    size_t n, max_n, bytes, max_bytes;
    int64_t now_ms;
    void (*fn)(void *arg, uint64_t seq, int deliveries, int64_t wall_ms, const void *p, size_t n);
    void *arg;
    struct buf ranges; /* of struct range */
    struct range same; /* of the first message's epoch */
};

static bool fits(const struct leasing *l, uint64_t seq, size_t n)
{
    if (l->n && (seq < l->same.first || seq > l->same.last))
        return false;
    const struct window *w = l->c->window;
    return !w->n_leased || ((!l->n || l->bytes + n <= l->max_bytes) && w->leased_bytes + n <= w->max_bytes);
}

static void lease(struct leasing *l, uint64_t seq, const void *p, size_t n, int64_t wall_ms)
{
    struct consumer *c = l->c;
    struct sub *s = c->sub;
    struct slot *t = sub_slot_of(s, seq);
    unsigned char epoch[EPOCH_BYTES];
    struct range *last = l->ranges.n ? (struct range *)(l->ranges.p + l->ranges.n) - 1 : NULL;
    sub_set_state(s, seq, t, SLOT_LEASED);
    if (t->deliveries < MAX_DELIVERIES_COUNTED)
        t->deliveries++;
    s->redelivered += t->deliveries > 1;
    if (!l->n)
        l->same = sub_epoch(s, seq, epoch);
    t->consumer = c->id;
    t->bytes = (uint32_t)n;
    t->since_ms = l->now_ms;
    t->until_ms = l->now_ms + s->lease_ms;
    c->low = c->n_leased && c->low < seq ? c->low : seq;
    c->n_leased++;
    c->window->n_leased++;
    c->window->leased_bytes += n;
    l->n++;
    l->bytes += n;
    if (last && last->last + 1 == seq)
        last->last = seq;
    else
        buf_add(&l->ranges, &(struct range){seq, seq}, sizeof(struct range));
    l->fn(l->arg, seq, t->deliveries, wall_ms, p, n);
}

/* Messages that cannot be read any more are done for this subscription. Those that were missing at the start are counted already.
 */
static void lose(struct sub *s, uint64_t first, uint64_t next)
{
    bool counted = !stream_has(s->stream, first);
    sub_advance(s, next);
    uint64_t seq = first;
    for (struct slot *t; (t = sub_next_slot(s, &seq, next - 1)); seq++)
        if (t->state != SLOT_DONE && t->state != SLOT_DEAD) {
            sub_set_state(s, seq, t, SLOT_DONE);
            s->lost += !counted;
        }
}

/* From a ring, as long as the first one in it may be leased. */
static void lease_again(struct leasing *l, struct ring *r, uint8_t state, size_t max, uint8_t max_before)
{
    struct sub *s = l->c->sub;
    uint64_t seq, next;
    size_t n, taken = 0;
    int64_t wall_ms;
    while (taken < max && l->n < l->max_n && l->c->window->n_leased < l->c->window->max_n && (seq = front(s, r, state))) {
        const void *p = stream_find(s->stream, seq, &n, &wall_ms, &next);
        if (!p) {
            lose(s, seq, seq + 1);
            continue;
        }
        if (!fits(l, seq, n) || sub_slot_of(s, seq)->deliveries > max_before)
            return;
        ring_pop(r);
        lease(l, seq, p, n, wall_ms);
        taken++;
    }
}

static void lease_fresh(struct leasing *l)
{
    struct sub *s = l->c->sub;
    size_t n;
    int64_t wall_ms;
    while (l->n < l->max_n && l->c->window->n_leased < l->c->window->max_n && s->cursor < s->stream->next_seq) {
        uint64_t seq = s->cursor, next;
        const void *p = stream_find(s->stream, seq, &n, &wall_ms, &next);
        if (!p) {
            lose(s, seq, next);
            continue;
        }
        if (!fits(l, seq, n))
            return;
        sub_advance(s, seq + 1);
        lease(l, seq, p, n, wall_ms);
    }
}

size_t consumer_lease(struct consumer *c, size_t max_n, size_t max_bytes, int64_t now_ms,
                      void (*fn)(void *arg, uint64_t seq, int deliveries, int64_t wall_ms, const void *p, size_t n), void *arg)
{
    struct sub *s = c->sub;
    struct leasing l = {.c = c, .max_n = max_n, .max_bytes = max_bytes, .now_ms = now_ms, .fn = fn, .arg = arg};
    if (!consumer_may_lease(c))
        return 0;
    uint64_t suspect = front(s, &s->suspects, SLOT_SUSPECT);
    c->window->alone = suspect != 0;
    if (suspect) {
        bool first_time = sub_slot_of(s, suspect)->deliveries == 1 && s->max_deliveries > 2;
        lease_again(&l, &s->suspects, SLOT_SUSPECT, first_time ? SUSPECT_GROUP : 1, first_time ? 1 : UINT8_MAX);
    } else {
        lease_again(&l, &s->again, SLOT_AGAIN, SIZE_MAX, UINT8_MAX);
        if (!front(s, &s->again, SLOT_AGAIN))
            lease_fresh(&l);
    }
    const struct range *v = (const struct range *)l.ranges.p;
    size_t n = l.ranges.n / sizeof *v;
    for (size_t i = 0; i < n; i++)
        sub_add_timed(s, (struct timed){now_ms + s->lease_ms, v[i].first, v[i].last, c->id});
    if (n)
        sub_log_ranges(s, REC_DELIVERED, v, n);
    buf_fini(&l.ranges);
    sub_finish(s); /* for those that were lost */
    return l.n;
}
