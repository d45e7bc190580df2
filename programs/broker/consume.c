#include "consume.h"
#include "answers.h"
#include "deliver.h"
#include "lookup.h"
#include "moving.h"
#include "parts.h"
#include "quota.h"
#include "spans.h"

#include "base/mem.h"

#include <string.h>

enum {
    MAX_WINDOW = 65536,
    MAX_WINDOW_BYTES = 64 << 20,
    MAX_CONSUMERS = 1024, /* of a subscription */
    MAX_PER_SESSION = 64,
};

static struct broker_sub *sub_of(const struct broker_consumer *bc)
{
    return sub_tag(consumer_sub(bc->consumer));
}

/* ---- ends ---- */

static void end_consumer(struct session *s, size_t i, bool lost)
{
    struct broker_consumer *bc = s->consumers[i];
    struct broker_sub *bs = sub_of(bc);
    spans_end(bc, lost ? "its consumer is gone" : NULL);
    consumer_ends(bc->consumer);
    for (size_t k = 0; k < bc->n_parts; k++)
        if (bc->parts[k])
            consumer_detach(bc->parts[k], lost, s->b->wall_ms);
    consumer_detach(bc->consumer, lost, s->b->wall_ms);
    free(bc->parts);
    free(bc);
    s->consumers[i] = s->consumers[--s->n_consumers];
    deliver_want_parts(bs);
    broker_turn_soon(s->b);
}

void consume_end_all(struct session *s, bool lost)
{
    while (s->n_consumers)
        end_consumer(s, s->n_consumers - 1, lost);
}

void consume_end_stream(struct broker *b, const struct broker_stream *st)
{
    size_t i = 0;
    for (struct session *s; (s = map_next(&b->sessions, &i));)
        for (size_t k = s->n_consumers; k-- > 0;)
            if (sub_of(s->consumers[k])->stream == st->whole)
                end_consumer(s, k, false);
}

/* ---- subscribing ---- */

static struct broker_consumer *find(struct session *s, uint16_t tag, size_t *ret_i)
{
    for (size_t i = 0; i < s->n_consumers; i++)
        if (s->consumers[i]->tag == tag) {
            *ret_i = i;
            return s->consumers[i];
        }
    return NULL;
}

/* The one that the request is about; NULL: there is none, and it was refused. */
static struct broker_consumer *consumer_of(struct session *s, const struct wire_request *rq, size_t *ret_i)
{
    struct broker_consumer *bc = find(s, rq->h.consumer, ret_i);
    if (!bc && !(s->tenant && moving_refuses(s, &rq->h, s->tenant)))
        answer_refuse(s, &rq->h, WIRE_unknown, 0, "consumer %u of this connection has no subscription", rq->h.consumer);
    return bc;
}

/* bc: who asks, NULL where it is new. True when it was refused. */
static bool may_not_subscribe(struct session *s, const struct wire_request *rq, const struct broker_stream *st,
                              const struct broker_sub *bs, const struct broker_consumer *bc)
{
    struct sub_figures f;
    if (!bs) {
        answer_refuse(s, &rq->h, WIRE_unknown, 0, "stream %s has no subscription \"%s\"; each of the tenant's `stream_apps` is one",
                      stream_name(st->stream), rq->subscription);
        return true;
    }
    if (moving_refuses(s, &rq->h, st->tenant))
        return true;
    if (st->tenant->suspended) {
        answer_refuse(s, &rq->h, WIRE_suspended, 0, "tenant %s is suspended", st->tenant->id);
        return true;
    }
    if (bc && sub_of(bc) != bs) {
        answer_refuse(s, &rq->h, WIRE_protocol, 0, "consumer %u of this connection is subscribed to something else",
                      rq->h.consumer);
        return true;
    }
    sub_figures(bs->sub, &f);
    if (!bc && f.n_consumers >= MAX_CONSUMERS) {
        answer_refuse(s, &rq->h, WIRE_quota, 0, "a subscription may have %d consumers", MAX_CONSUMERS);
        return true;
    }
    if (!bc && s->n_consumers == MAX_PER_SESSION) {
        answer_refuse(s, &rq->h, WIRE_quota, 0, "a connection may have %d subscriptions", MAX_PER_SESSION);
        return true;
    }
    return false;
}

/* It gets the messages of this partition, too. */
static void join(struct broker_consumer *bc, const struct broker_stream *st)
{
    struct broker_sub *bs = parts_sub(sub_of(bc), st->part);
    if (!bs || !st->part || (st->part <= bc->n_parts && bc->parts[st->part - 1]))
        return;
    if (st->part > bc->n_parts) {
        bc->parts = xrealloc(bc->parts, st->part * sizeof(struct consumer *));
        memset(bc->parts + bc->n_parts, 0, (st->part - bc->n_parts) * sizeof(struct consumer *));
        bc->n_parts = st->part;
    }
    bc->parts[st->part - 1] = sub_attach(bs->sub, bc);
    consumer_share(bc->parts[st->part - 1], bc->consumer);
}

static void join_all(struct broker_consumer *bc)
{
    size_t i = 0;
    for (const struct broker_stream *st; (st = parts_next(sub_of(bc)->stream, &i));)
        join(bc, st);
}

void consume_join(struct broker *b, const struct broker_stream *whole)
{
    size_t i = 0;
    for (const struct session *s; (s = map_next(&b->sessions, &i));)
        for (size_t k = 0; k < s->n_consumers; k++)
            if (sub_of(s->consumers[k])->stream == whole)
                join_all(s->consumers[k]);
}

static struct broker_consumer *add_consumer(struct session *s, uint16_t tag, struct sub *sub)
{
    struct broker_consumer *bc = xcalloc(1, sizeof *bc);
    *bc = (struct broker_consumer){.tag = tag, .session = s};
    bc->consumer = sub_attach(sub, bc);
    sub_epoch(sub, sub_floor(sub), bc->epoch);
    s->consumers = xrealloc(s->consumers, (s->n_consumers + 1) * sizeof(struct broker_consumer *));
    s->consumers[s->n_consumers++] = bc;
    join_all(bc);
    return bc;
}

void consume_subscribe(struct session *s, const struct wire_request *rq)
{
    size_t i;
    struct broker_stream *st = lookup_stream(s, rq);
    if (!st)
        return;
    struct broker_sub *bs = lookup_sub(st, rq->subscription);
    struct broker_consumer *bc = find(s, rq->h.consumer, &i);
    if (may_not_subscribe(s, rq, st, bs, bc))
        return;
    if (!bc)
        bc = add_consumer(s, rq->h.consumer, bs->sub);
    consumer_set_window(bc->consumer, rq->max_messages < MAX_WINDOW ? rq->max_messages : MAX_WINDOW,
                        rq->max_bytes < MAX_WINDOW_BYTES ? rq->max_bytes : MAX_WINDOW_BYTES);
    bc->wants_traces = rq->wants & WIRE_WANTS_TRACES;
    deliver_terms(bc, rq->h.request);
    deliver_want_parts(bs);
}

void consume_unsubscribe(struct session *s, const struct wire_request *rq)
{
    size_t i;
    if (!consumer_of(s, rq, &i))
        return;
    end_consumer(s, i, false);
    answer_done(s, &rq->h, 0);
}

/* ---- settling ---- */

static int by_first(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Sorts ranges and joins those that overlap, so that no message is looked at twice. How many are left. */
static size_t merge(struct range *v, size_t n)
{
    size_t k = 0;
    qsort(v, n, sizeof *v, by_first);
    for (size_t i = 1; i < n; i++)
        if (v[i].first > v[k].last)
            v[++k] = v[i];
        else if (v[i].last > v[k].last)
            v[k].last = v[i].last;
    return k + 1;
}

static uint64_t acknowledge(struct broker_sub *bs, const struct range *v, const uint32_t *rows, size_t n_ranges)
{
    uint64_t before = sub_tally(bs->sub)->v[TALLY_ROWS], n = sub_ack(bs->sub, v, rows, n_ranges, bs->stream->b->now_ms);
    quota_take_rows(bs->whole, rows ? sub_tally(bs->sub)->v[TALLY_ROWS] - before : n);
    return n;
}

/* In one partition, by its own sequences. */
static uint64_t settle_in(struct broker_consumer *bc, size_t part, const struct wire_request *rq, const struct range *v,
                          const uint32_t *rows, size_t n)
{
    const struct broker *b = bc->session->b;
    struct broker_sub *bs = parts_sub(sub_of(bc), part);
    struct consumer *c = !part ? bc->consumer : part <= bc->n_parts ? bc->parts[part - 1] : NULL;
    if (!n || !bs || !c)
        return 0;
    if (rq->h.verb == WIRE_ACK)
        return acknowledge(bs, v, rows, n);
    if (rq->h.verb == WIRE_NACK)
        return consumer_nack(c, v, n, rq->delay_ms == WIRE_NEVER ? -1 : (int64_t)rq->delay_ms, rq->reason, b->now_ms, b->wall_ms);
    return consumer_extend(c, v, n, b->now_ms);
}

/* The ranges are in order and apart, so those of a partition lie together; one may reach over several. */
static uint64_t settle_parts(struct broker_consumer *bc, const struct wire_request *rq, struct range *v, const uint32_t *rows,
                             size_t n)
{
    static struct range mine[WIRE_MAX_RANGES];
    const uint64_t size = 1ULL << PART_SHIFT;
    const size_t n_parts = sub_of(bc)->stream->n_parts;
    uint64_t found = 0;
    for (size_t part = 0, i = 0; part < n_parts && i < n; part++) {
        const uint64_t base = part * size;
        size_t first = i, k = 0;
        for (; i < n && v[i].first < base + size; i++) {
            mine[k++] = (struct range){v[i].first - base, (v[i].last < base + size ? v[i].last : base + size - 1) - base};
            if (v[i].last >= base + size) { /* the rest of it is another's */
                v[i].first = base + size;
                break;
            }
        }
        found += settle_in(bc, part, rq, mine, rows ? rows + first : NULL, k);
    }
    return found;
}

void consume_settle(struct session *s, const struct wire_request *rq)
{
    size_t i;
    struct broker_consumer *bc = consumer_of(s, rq, &i);
    static struct range v[WIRE_MAX_RANGES];
    static uint32_t rows[WIRE_MAX_RANGES];
    uint64_t n = 0;
    if (!bc)
        return;
    for (i = 0; i < rq->n; i++) {
        struct wire_range r = wire_range_at(rq, i);
        v[i] = (struct range){r.first, r.last};
        rows[i] = rq->rows ? le_u32(rq->rows + i * 4) : 0;
    }
    struct broker_sub *bs = sub_tag(consumer_sub(bc->consumer));
    consumer_heard(bc->consumer);
    const bool several = bs->stream->n_parts > 1;
    size_t n_ranges = rq->rows ? rq->n : merge(v, rq->n);
    if (bc->n_flights && rq->h.verb != WIRE_EXTEND)
        spans_settled(bc, v, rq->rows ? rows : NULL, n_ranges,
                      rq->h.verb == WIRE_ACK ? NULL
                      : *rq->reason          ? rq->reason
                                             : "given back");
    n = several ? settle_parts(bc, rq, v, rq->rows ? rows : NULL, n_ranges)
                : settle_in(bc, 0, rq, v, rq->rows ? rows : NULL, n_ranges);
    answer_done(s, &rq->h, n);
    deliver_want_parts(bs);
}

void consume_want(struct session *s)
{
    for (size_t i = 0; i < s->n_consumers; i++)
        deliver_want_parts(sub_of(s->consumers[i]));
}
