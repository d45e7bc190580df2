/* Who holds which messages, and until when: leases, acks, refusals, time. */
#include "queue_parts.h"

#include "base/mem.h"

#include <string.h>

enum { TIMED_KEPT = 4096 };

/* ---- timed runs ---- */

static bool is_held(const struct slot *t, uint32_t consumer)
{
    return t->state == SLOT_LEASED && t->consumer == consumer;
}

static bool is_over(const struct sub *s, const struct timed *run)
{
    uint64_t seq = run->first;
    for (const struct slot *t; (t = sub_next_slot(s, &seq, run->last)); seq++)
        if (run->consumer ? is_held(t, run->consumer) : t->state == SLOT_DELAYED)
            return false;
    return true;
}

static void sift_up(struct sub *s, struct timed t, size_t i)
{
    for (; i > 0 && s->timed[(i - 1) / 2].due_ms > t.due_ms; i = (i - 1) / 2)
        s->timed[i] = s->timed[(i - 1) / 2];
    s->timed[i] = t;
}

/* Runs whose messages are long done would wait for their time all the same, behind one that is held. */
static void forget_over(struct sub *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_timed; i++)
        if (!is_over(s, &s->timed[i]))
            sift_up(s, s->timed[i], n++); /* n is at most i */
    s->n_timed = n;
    s->forget_timed_at = n * 2 > TIMED_KEPT ? n * 2 : TIMED_KEPT;
}

static void add_timed(struct sub *s, struct timed t)
{
    if (s->n_timed >= s->forget_timed_at)
        forget_over(s);
    if (s->n_timed == s->cap_timed) {
        s->cap_timed = s->cap_timed ? s->cap_timed * 2 : 64;
        s->timed = xrealloc(s->timed, s->cap_timed * sizeof *s->timed);
    }
    sift_up(s, t, s->n_timed++);
}

static struct timed take_timed(struct sub *s)
{
    struct timed first = s->timed[0], t = s->timed[--s->n_timed];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < s->n_timed; i = k) {
        if (k + 1 < s->n_timed && s->timed[k + 1].due_ms < s->timed[k].due_ms)
            k++;
        if (t.due_ms <= s->timed[k].due_ms)
            break;
        s->timed[i] = s->timed[k];
    }
    s->timed[i] = t;
    return first;
}

/* ---- consumers ---- */

struct consumer *sub_attach(struct sub *s, void *tag)
{
    size_t i = 0;
    while (i < s->cap_consumers && s->consumers[i])
        i++;
    if (i == s->cap_consumers) {
        s->cap_consumers = i ? i * 2 : 4;
        s->consumers = xrealloc(s->consumers, s->cap_consumers * sizeof *s->consumers);
        memset(s->consumers + i, 0, (s->cap_consumers - i) * sizeof *s->consumers);
    }
    struct consumer *c = xcalloc(1, sizeof *c);
    *c = (struct consumer){.sub = s, .tag = tag, .id = (uint32_t)i + 1};
    s->consumers[i] = c;
    s->n_consumers++;
    return c;
}

void consumer_set_window(struct consumer *c, uint64_t max_n, uint64_t max_bytes)
{
    c->max_n = max_n;
    c->max_bytes = max_bytes;
}

uint64_t consumer_n_leased(const struct consumer *c)
{
    return c->n_leased;
}

uint64_t consumer_n_ran_out(const struct consumer *c)
{
    return c->n_ran_out;
}

void consumer_heard(struct consumer *c)
{
    c->n_ran_out = 0;
}

void *consumer_tag(const struct consumer *c)
{
    return c->tag;
}

struct sub *consumer_sub(const struct consumer *c)
{
    return c->sub;
}

struct consumer *sub_next_consumer(const struct sub *s, size_t *i)
{
    while (*i < s->cap_consumers)
        if (s->consumers[(*i)++])
            return s->consumers[*i - 1];
    return NULL;
}

/* The lease of seq ended without an ack. own: for a reason of its own. */
static void fail(struct sub *s, uint64_t seq, struct slot *t, bool own, const char *reason, int64_t wall_ms)
{
    sub_count(s, TALLY_ERRORS, 1);
    if (own && t->deliveries >= s->max_deliveries)
        sub_die(s, seq, t, reason, wall_ms);
    else
        sub_set_state(s, seq, t, own ? SLOT_AGAIN : SLOT_SUSPECT);
}

void consumer_detach(struct consumer *c, bool lost, int64_t wall_ms)
{
    struct sub *s = c->sub;
    bool alone = c->n_leased == 1;
    uint64_t seq = c->low > s->floor ? c->low : s->floor; /* thousands may go at once, and much be leased */
    for (struct slot *t; c->n_leased && (t = sub_next_slot(s, &seq, UINT64_MAX)); seq++)
        if (is_held(t, c->id) && lost)
            fail(s, seq, t, alone, "its consumer went away", wall_ms);
        else if (is_held(t, c->id))
            sub_set_state(s, seq, t, SLOT_AGAIN);
    s->consumers[c->id - 1] = NULL;
    s->n_consumers--;
    free(c);
    sub_finish(s);
}

/* What is in front of a ring and still is what it was put there for; 0: nothing. */
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
    if (c->n_leased >= c->max_n || (c->n_leased && (c->alone || c->leased_bytes >= c->max_bytes)))
        return false;
    if (s->n_suspect)
        return !c->n_leased;
    return s->n_again || s->cursor < s->stream->next_seq;
}

/* As far as they lie between floor and cursor: what peers say may be anything. */
static void log_ranges(const struct sub *s, int type, const struct range *v, size_t n)
{
    AUTO_BUF struct buf b = {0};
    le_add_u32(&b, s->id);
    le_add_u32(&b, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        le_add_u64(&b, v[i].first < s->floor ? s->floor : v[i].first);
        le_add_u64(&b, v[i].last >= s->cursor ? s->cursor - 1 : v[i].last);
    }
    log_event(s->stream->q, type, b.p, b.n);
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
    return !l->c->n_leased || ((!l->n || l->bytes + n <= l->max_bytes) && l->c->leased_bytes + n <= l->c->max_bytes);
}

static void lease(struct leasing *l, uint64_t seq, const void *p, size_t n, int64_t wall_ms)
{
    struct consumer *c = l->c;
    struct sub *s = c->sub;
    struct slot *t = sub_slot_of(s, seq);
    unsigned char epoch[QUEUE_EPOCH];
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
    c->leased_bytes += n;
    l->n++;
    l->bytes += n;
    if (last && last->last + 1 == seq)
        last->last = seq;
    else
        buf_add(&l->ranges, &(struct range){seq, seq}, sizeof(struct range));
    l->fn(l->arg, seq, t->deliveries, wall_ms, p, n);
}

/* A message that is not to be had any more ends for this subscription. Those that were missing from the start are counted. */
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

/* From a ring, while what is in front passes. */
static void lease_again(struct leasing *l, struct ring *r, uint8_t state, size_t max, uint8_t max_before)
{
    struct sub *s = l->c->sub;
    uint64_t seq, next;
    size_t n, taken = 0;
    int64_t wall_ms;
    while (taken < max && l->n < l->max_n && l->c->n_leased < l->c->max_n && (seq = front(s, r, state))) {
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
    while (l->n < l->max_n && l->c->n_leased < l->c->max_n && s->cursor < s->stream->next_seq) {
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
    c->alone = suspect != 0;
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
        add_timed(s, (struct timed){now_ms + s->lease_ms, v[i].first, v[i].last, c->id});
    if (n)
        log_ranges(s, REC_DELIVERED, v, n);
    buf_fini(&l.ranges);
    sub_finish(s); /* some may have been lost */
    return l.n;
}

static uint64_t ack_one(struct sub *s, uint64_t seq, struct slot *t, int64_t now_ms)
{
    if (t->state == SLOT_DONE || t->state == SLOT_DEAD || !t->deliveries)
        return 0;
    if (t->state == SLOT_LEASED)
        sub_add_time(s, now_ms - t->since_ms);
    uint32_t bytes = t->bytes;
    if (t->state != SLOT_LEASED && !bytes) { /* delivered by an earlier program, and not again */
        size_t n;
        int64_t wall_ms;
        bytes = stream_read(s->stream, seq, &n, &wall_ms) ? (uint32_t)n : 0;
    }
    sub_count(s, TALLY_BYTES, bytes);
    sub_set_state(s, seq, t, SLOT_DONE);
    return 1;
}

uint64_t sub_ack(struct sub *s, const struct range *v, const uint32_t *rows, size_t n, int64_t now_ms)
{
    uint64_t acked = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t seq = v[i].first, before = acked;
        for (struct slot *t; (t = sub_next_slot(s, &seq, v[i].last)); seq++)
            acked += ack_one(s, seq, t, now_ms);
        sub_count(s, TALLY_ROWS, rows ? (acked - before) * rows[i] : 0);
    }
    sub_count(s, TALLY_MESSAGES, acked);
    if (acked)
        log_ranges(s, REC_ACK, v, n);
    sub_finish(s);
    return acked;
}

static uint64_t each_held(struct consumer *c, const struct range *v, size_t n,
                          void (*fn)(struct consumer *c, uint64_t seq, struct slot *t, void *arg), void *arg)
{
    struct sub *s = c->sub;
    uint64_t found = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t seq = v[i].first;
        for (struct slot *t; (t = sub_next_slot(s, &seq, v[i].last)); seq++)
            if (is_held(t, c->id)) {
                fn(c, seq, t, arg);
                found++;
            }
    }
    return found;
}

struct nacking {
    int64_t until_ms, wall_ms; /* until_ms 0: at once, -1: never */
    const char *reason;
};

static void nack_one(struct consumer *c, uint64_t seq, struct slot *t, void *arg)
{
    const struct nacking *k = arg;
    struct sub *s = c->sub;
    if (k->until_ms < 0) {
        s->rejected++;
        sub_count(s, TALLY_ERRORS, 1);
        sub_die(s, seq, t, k->reason, k->wall_ms);
        return;
    }
    if (t->deliveries >= s->max_deliveries || !k->until_ms) {
        fail(s, seq, t, true, k->reason, k->wall_ms);
        return;
    }
    sub_count(s, TALLY_ERRORS, 1);
    sub_set_state(s, seq, t, SLOT_DELAYED);
    t->until_ms = k->until_ms;
    add_timed(s, (struct timed){k->until_ms, seq, seq, 0});
}

uint64_t consumer_nack(struct consumer *c, const struct range *v, size_t n, int64_t delay_ms, const char *reason, int64_t now_ms,
                       int64_t wall_ms)
{
    struct nacking k = {delay_ms > 0 ? now_ms + delay_ms : delay_ms, wall_ms, *reason ? reason : "refused by its consumer"};
    uint64_t found = each_held(c, v, n, nack_one, &k);
    sub_finish(c->sub);
    return found;
}

static void extend_one(struct consumer *c, uint64_t seq, struct slot *t, void *arg)
{
    (void)seq;
    t->until_ms = *(const int64_t *)arg + c->sub->lease_ms;
}

uint64_t consumer_extend(struct consumer *c, const struct range *v, size_t n, int64_t now_ms)
{
    return each_held(c, v, n, extend_one, &now_ms);
}

/* Ends what is over of a timed run; puts back what was extended. */
static void end_timed(struct sub *s, struct timed run, int64_t now_ms, int64_t wall_ms)
{
    int64_t later = -1;
    uint64_t seq = run.first;
    struct consumer *c = run.consumer ? s->consumers[run.consumer - 1] : NULL;
    bool alone = c && c->n_leased == 1;
    for (struct slot *t; (t = sub_next_slot(s, &seq, run.last)); seq++) {
        if (!run.consumer && t->state == SLOT_DELAYED && t->until_ms <= now_ms) {
            sub_set_state(s, seq, t, SLOT_AGAIN);
        } else if (run.consumer && is_held(t, run.consumer)) {
            if (t->until_ms <= now_ms) {
                c->n_ran_out++;
                fail(s, seq, t, alone, "its lease ran out", wall_ms);
            } else if (later < 0 || t->until_ms < later)
                later = t->until_ms;
        }
    }
    if (later >= 0)
        add_timed(s, (struct timed){later, run.first, run.last, run.consumer});
}

int64_t sub_tick(struct sub *s, int64_t now_ms, int64_t wall_ms)
{
    while (s->n_timed && s->timed[0].due_ms <= now_ms)
        end_timed(s, take_timed(s), now_ms, wall_ms);
    sub_finish(s);
    /* Runs whose messages are all done long since need not wait for their time. */
    while (s->n_timed && s->timed[0].last < s->floor)
        take_timed(s);
    return s->n_timed ? s->timed[0].due_ms : -1;
}
