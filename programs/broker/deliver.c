#include "deliver.h"
#include "answers.h"
#include "parts.h"
#include "quota.h"
#include "spans.h"
#include "watchers.h"

#include "base/clk.h"
#include "loop/timer.h"

#include <string.h>

enum {
    BATCH_MESSAGES = 512, /* of one DELIVER */
    BATCH_BYTES = 256 << 10,
    ROUND_CONSUMERS = 64,
    TURN_BATCHES = 64, /* of all subscriptions in one turn, so that publishers are heard meanwhile */
};

void deliver_want(struct broker_sub *bs)
{
    if (bs->listed)
        return;
    bs->listed = true;
    bs->next = bs->stream->b->to_serve;
    bs->stream->b->to_serve = bs;
}

/* Each is served first in its turn: what their consumers may hold is what all partitions share. */
void deliver_want_parts(struct broker_sub *bs)
{
    struct broker_stream *whole = bs->stream;
    size_t n = whole->n_parts, first = whole->next_part++;
    for (size_t i = 0; i < n; i++) {
        struct broker_sub *one = n == 1 ? bs : parts_sub(bs, (first + i) % n);
        if (one)
            deliver_want(one);
    }
}

struct batch {
    struct buf list, bytes, traces; /* traces: of each message, zeros where it has none */
    struct stream *traced;          /* NULL: none has one */
    bool any_trace;
    const struct broker_stream *st;
    uint64_t first, last; /* of its messages, within the partition */
};

static void add_trace(struct batch *batch, uint64_t seq)
{
    static const unsigned char none[WIRE_TRACE_BYTES];
    const unsigned char *trace = stream_trace(batch->traced, seq);
    batch->any_trace |= trace != NULL;
    buf_add(&batch->traces, trace ? trace : none, WIRE_TRACE_BYTES);
}

/* What was sent. */
static void tell_spans(struct broker_consumer *bc, const struct batch *batch)
{
    const unsigned char *trace = (const unsigned char *)batch->traces.p;
    for (size_t i = 0; i < batch->list.n / WIRE_DELIVERY_BYTES; i++, trace += WIRE_TRACE_BYTES)
        spans_delivered(bc, le_u64(batch->list.p + i * WIRE_DELIVERY_BYTES), trace);
}

static void on_message(void *arg, uint64_t seq, int deliveries, int64_t wall_ms, const void *p, size_t n)
{
    struct batch *batch = arg;
    batch->first = seq < batch->first ? seq : batch->first;
    batch->last = seq > batch->last ? seq : batch->last;
    le_add_u64(&batch->list, parts_wire_seq(batch->st, seq));
    le_add_u64(&batch->list, (uint64_t)wall_ms);
    le_add_u32(&batch->list, (uint32_t)deliveries);
    le_add_u32(&batch->list, (uint32_t)n);
    buf_add(&batch->bytes, p, n);
    if (batch->traced)
        add_trace(batch, seq);
}

int deliver_terms(struct broker_consumer *bc, uint32_t request)
{
    const struct conf_stream *conf = &((struct broker_sub *)sub_tag(consumer_sub(bc->consumer)))->stream->conf;
    AUTO_BUF struct buf header = {0}, terms = {0};
    wire_add_header(&header, WIRE_SUBSCRIBED, bc->tag, request);
    le_add_u32(&terms, (uint32_t)conf->lease_ms);
    le_add_u32(&terms, (uint32_t)conf->max_deliveries);
    struct wire_frame v[] = {{header.p, header.n}, {bc->epoch, WIRE_EPOCH_BYTES}, {terms.p, terms.n}};
    return answer_send(bc->session, v, 3);
}

/* Where the messages from seq on have another epoch than those before, the consumer is told first. */
static int tell_epoch(struct broker_consumer *bc, const struct sub *sub, uint64_t seq)
{
    unsigned char epoch[EPOCH_BYTES], before[EPOCH_BYTES];
    sub_epoch(sub, seq, epoch);
    if (!memcmp(epoch, bc->epoch, sizeof epoch))
        return 0;
    memcpy(before, bc->epoch, sizeof before);
    memcpy(bc->epoch, epoch, sizeof epoch);
    int r = deliver_terms(bc, 0);
    if (r < 0) /* it was not told: it is told the next time */
        memcpy(bc->epoch, before, sizeof before);
    return r;
}

/* An empty one for messages of this stream; its buffers are used again. */
static void begin_batch(struct batch *batch, const struct broker_stream *st)
{
    struct stream *stream = st->stream;
    batch->st = st;
    batch->list.n = batch->bytes.n = batch->traces.n = 0;
    batch->traced = stream_has_traces(stream) ? stream : NULL;
    batch->any_trace = false;
    batch->first = UINT64_MAX;
    batch->last = 0;
}

static int send_batch(struct broker_consumer *bc, const struct sub *sub, const struct batch *batch)
{
    AUTO_BUF struct buf header = {0};
    wire_add_header(&header, WIRE_DELIVER, bc->tag, 0);
    struct wire_frame v[] = {
        {header.p, header.n}, {batch->list.p, batch->list.n}, {batch->bytes.p, batch->bytes.n}, {batch->traces.p, batch->traces.n}};
    int r = tell_epoch(bc, sub, batch->first);
    if (r == 0)
        r = answer_send(bc->session, v, bc->wants_traces && batch->any_trace ? 4 : 3);
    if (r == 0 && batch->any_trace)
        tell_spans(bc, batch);
    return r;
}

/* A batch for one consumer. False: there was nothing for it, or it does not read. */
static bool serve_one(struct broker *b, struct consumer *c, size_t max)
{
    static struct batch batch;
    struct broker_consumer *bc = consumer_tag(c);
    begin_batch(&batch, stream_tag(sub_stream(consumer_sub(c))));
    if (!consumer_lease(c, max, BATCH_BYTES, b->now_ms, on_message, &batch))
        return false;
    int r = send_batch(bc, consumer_sub(c), &batch);
    if (r < 0) /* it does not read: they go back, and it gets nothing until it reads again */
        consumer_nack(c, &(struct range){batch.first, batch.last}, 1, 0, "its consumer does not read", b->now_ms, b->wall_ms);
    return r == 0;
}

/* One round over the subscription's consumers; how many got something. */
static size_t serve_round(struct broker *b, struct broker_sub *bs)
{
    struct sub_figures f;
    size_t served = 0, i = 0, n = 0;
    sub_figures(bs->sub, &f);
    if (!f.ready || !f.n_consumers)
        return 0;
    size_t share = (size_t)(f.ready / f.n_consumers) + 1;
    /* Once around, beginning behind the last consumer of the round before. */
    struct consumer *v[ROUND_CONSUMERS] = {0};
    for (int pass = 0; pass < 2; pass++) {
        size_t end = pass ? bs->turn : SIZE_MAX;
        i = pass ? 0 : bs->turn;
        for (struct consumer *c; n < ROUND_CONSUMERS && i < end && (c = sub_next_consumer(bs->sub, &i));) {
            const struct session *session = ((struct broker_consumer *)consumer_tag(c))->session;
            if (consumer_may_lease(c) && !session->deaf && !session->held && !zmtp_is_full(session->conn))
                v[n++] = c;
        }
        if (n == ROUND_CONSUMERS)
            break;
    }
    bs->turn = n == ROUND_CONSUMERS ? i : bs->turn + 1;
    if (bs->turn > f.n_consumers * 2 + ROUND_CONSUMERS) /* beyond the last */
        bs->turn = 0;
    for (size_t k = 0; k < n; k++)
        served += serve_one(b, v[k], share < BATCH_MESSAGES ? share : BATCH_MESSAGES);
    return served;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct broker_sub *bs = arg;
    (void)fd;
    (void)what;
    bs->due_ms = -1;
    deliver_want(bs);
    broker_turn_soon(bs->stream->b);
}

/* The timer for the next lease that ends, and for when rows may be made again. */
static void arm(struct broker_sub *bs)
{
    struct broker *b = bs->stream->b;
    int64_t due = sub_end_leases(bs->sub, b->now_ms, b->wall_ms), wait_ms = quota_rows_wait_ms(bs->whole);
    if (wait_ms > 0 && (due < 0 || b->now_ms + wait_ms < due))
        due = b->now_ms + wait_ms;
    if (due < 0 || (bs->due_ms >= 0 && bs->due_ms <= due))
        return; /* one that comes too early is set anew then */
    if (!bs->timer)
        bs->timer = event_new(b->base, -1, 0, on_timer, bs);
    int64_t ms = due - clk_now_ms();
    timer_set(bs->timer, ms > 1 ? ms : 1);
    bs->due_ms = due;
}

static void look_for_consumers(struct broker_sub *bs)
{
    struct sub_figures f;
    parts_sub_figures(bs, &f);
    if (f.n_consumers || !f.ready)
        bs->told = false;
    else if (!bs->told)
        watchers_activate(bs);
}

/* What it got of the batches that are left of this turn. */
static size_t serve(struct broker *b, struct broker_sub *bs, bool may, size_t left)
{
    sub_end_leases(bs->sub, b->now_ms, b->wall_ms); /* what was leased is handed out now */
    bool suspects = sub_has_suspects(bs->sub);
    size_t served = may && left && !quota_rows_wait_ms(bs->whole) && !parts_wait_for_suspects(bs) ? serve_round(b, bs) : 0;
    if (suspects && !sub_has_suspects(bs->sub) && bs->whole->stream->n_parts > 1)
        deliver_want_parts(bs->whole); /* others waited for that */
    arm(bs);
    return served;
}

bool deliver(struct broker *b)
{
    struct broker_sub *v = b->to_serve, *later = NULL;
    size_t left = TURN_BATCHES;
    b->to_serve = NULL;
    while (v) {
        struct broker_sub *bs = v;
        v = bs->next;
        bs->listed = false;
        bool may = bs->configured && bs->stream->configured && !bs->stream->tenant->suspended && !bs->stream->idle;
        size_t served = serve(b, bs, may, left);
        left -= served < left ? served : left;
        if (served || (may && !left)) { /* there may be more: after those that wait */
            if (!bs->listed) {
                bs->listed = true;
                bs->next = later;
                later = bs;
            }
        } else if (may) {
            look_for_consumers(bs->whole);
        }
    }
    while (later) {
        struct broker_sub *bs = later;
        later = bs->next;
        bs->next = b->to_serve;
        b->to_serve = bs;
    }
    return b->to_serve != NULL;
}

void deliver_forget(struct broker_sub *bs)
{
    for (struct broker_sub **at = &bs->stream->b->to_serve; *at; at = &(*at)->next)
        if (*at == bs) {
            *at = bs->next;
            break;
        }
    if (bs->timer)
        event_free(bs->timer);
    bs->timer = NULL;
}

void deliver_want_all(struct broker *b)
{
    size_t i = 0;
    for (struct stream *stream; (stream = streams_next(b->streams, &i));) {
        size_t k = 0;
        for (struct sub *s; (s = stream_next_sub(stream, &k));)
            deliver_want(sub_tag(s));
    }
    broker_turn_soon(b);
}
