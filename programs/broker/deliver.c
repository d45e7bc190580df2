/* Who gets what: the consumers of a subscription in turn, each as much as its window allows. */
#include "broker.h"

#include "base/clk.h"
#include "base/mem.h"

#include <string.h>

enum {
    BATCH_MESSAGES = 512, /* of one DELIVER */
    BATCH_BYTES = 256 << 10,
    ROUND_CONSUMERS = 64,
    TURN_BATCHES = 64, /* of all subscriptions in one turn, so that publishers are heard meanwhile */
};

void deliver_want(struct bsub *s)
{
    if (s->listed)
        return;
    s->listed = true;
    s->next = s->stream->b->to_serve;
    s->stream->b->to_serve = s;
}

struct batch {
    struct buf list, bytes;
    uint64_t first, last; /* of its messages */
};

static void on_message(void *arg, uint64_t seq, int deliveries, int64_t wall_ms, const void *p, size_t n)
{
    struct batch *batch = arg;
    batch->first = seq < batch->first ? seq : batch->first;
    batch->last = seq > batch->last ? seq : batch->last;
    le_add_u64(&batch->list, seq);
    le_add_u64(&batch->list, (uint64_t)wall_ms);
    le_add_u32(&batch->list, (uint32_t)deliveries);
    le_add_u32(&batch->list, (uint32_t)n);
    buf_add(&batch->bytes, p, n);
}

int deliver_terms(struct subscription *sub, uint32_t request)
{
    const struct conf_stream *conf = &((struct bsub *)sub_tag(consumer_sub(sub->consumer)))->stream->conf;
    AUTO_BUF struct buf header = {0}, terms = {0};
    wire_add_header(&header, WIRE_SUBSCRIBED, sub->tag, request);
    le_add_u32(&terms, (uint32_t)conf->lease_ms);
    le_add_u32(&terms, (uint32_t)conf->max_deliveries);
    struct wire_frame v[] = {{header.p, header.n}, {sub->epoch, WIRE_EPOCH_BYTES}, {terms.p, terms.n}};
    return session_send(sub->session, v, 3);
}

/* Says so first where the messages from seq on have another epoch than those before. */
static int tell_epoch(struct subscription *sub, uint64_t seq)
{
    unsigned char epoch[QUEUE_EPOCH], before[QUEUE_EPOCH];
    sub_epoch(consumer_sub(sub->consumer), seq, epoch);
    if (!memcmp(epoch, sub->epoch, sizeof epoch))
        return 0;
    memcpy(before, sub->epoch, sizeof before);
    memcpy(sub->epoch, epoch, sizeof epoch);
    int r = deliver_terms(sub, 0);
    if (r < 0) /* it was not told: the next time */
        memcpy(sub->epoch, before, sizeof before);
    return r;
}

/* True when it got something. */
static bool serve_one(struct broker *b, struct consumer *c, size_t max)
{
    static struct batch batch;
    struct subscription *sub = consumer_tag(c);
    AUTO_BUF struct buf header = {0};
    batch.list.n = batch.bytes.n = 0;
    batch.first = UINT64_MAX;
    batch.last = 0;
    if (!consumer_lease(c, max, BATCH_BYTES, b->now_ms, on_message, &batch))
        return false;
    wire_add_header(&header, WIRE_DELIVER, sub->tag, 0);
    struct wire_frame v[] = {{header.p, header.n}, {batch.list.p, batch.list.n}, {batch.bytes.p, batch.bytes.n}};
    int r = tell_epoch(sub, batch.first);
    if (r == 0)
        r = session_send(sub->session, v, 3);
    if (r < 0) /* it does not read: back with them, and nothing more until it is heard of */
        consumer_nack(c, &(struct range){batch.first, batch.last}, 1, 0, "its consumer does not read", b->now_ms, b->wall_ms);
    return r == 0;
}

/* One round over the subscription's consumers; how many got something. */
static size_t serve_round(struct broker *b, struct bsub *s)
{
    struct sub_figures f;
    size_t served = 0, i = 0, n = 0;
    sub_figures(s->queue, &f);
    if (!f.ready || !f.n_consumers)
        return 0;
    size_t share = (size_t)(f.ready / f.n_consumers) + 1;
    /* From the one behind the last that was looked at, once around. */
    struct consumer *v[ROUND_CONSUMERS] = {0};
    for (int pass = 0; pass < 2; pass++) {
        size_t end = pass ? s->turn : SIZE_MAX;
        i = pass ? 0 : s->turn;
        for (struct consumer *c; n < ROUND_CONSUMERS && i < end && (c = sub_next_consumer(s->queue, &i));) {
            const struct session *session = ((struct subscription *)consumer_tag(c))->session;
            if (consumer_may_lease(c) && !session->deaf && !session->held && !zmtp_is_full(session->conn))
                v[n++] = c;
        }
        if (n == ROUND_CONSUMERS)
            break;
    }
    s->turn = n == ROUND_CONSUMERS ? i : s->turn + 1;
    if (s->turn > f.n_consumers * 2 + ROUND_CONSUMERS) /* beyond the last */
        s->turn = 0;
    for (size_t k = 0; k < n; k++)
        served += serve_one(b, v[k], share < BATCH_MESSAGES ? share : BATCH_MESSAGES);
    return served;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct bsub *s = arg;
    (void)fd;
    (void)what;
    s->due_ms = -1;
    deliver_want(s);
    broker_turn_soon(s->stream->b);
}

void deliver_arm(struct bsub *s)
{
    struct broker *b = s->stream->b;
    int64_t due = sub_tick(s->queue, b->now_ms, b->wall_ms), wait_ms = limits_rows_wait_ms(s);
    if (wait_ms > 0 && (due < 0 || b->now_ms + wait_ms < due))
        due = b->now_ms + wait_ms;
    if (due < 0 || (s->due_ms >= 0 && s->due_ms <= due))
        return; /* a timer that comes too early arms itself anew */
    if (!s->timer)
        s->timer = event_new(b->base, -1, 0, on_timer, s);
    int64_t ms = due - clk_now_ms();
    ms = ms < 1 ? 1 : ms;
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};
    event_add(s->timer, &tv);
    s->due_ms = due;
}

static void look_for_consumers(struct bsub *s)
{
    struct sub_figures f;
    sub_figures(s->queue, &f);
    if (f.n_consumers || !f.ready)
        s->told = false;
    else if (!s->told)
        control_activate(s);
}

bool deliver(struct broker *b)
{
    struct bsub *v = b->to_serve, *later = NULL;
    size_t left = TURN_BATCHES;
    b->to_serve = NULL;
    while (v) {
        struct bsub *s = v;
        v = s->next;
        s->listed = false;
        bool may = s->configured && s->stream->configured && !s->stream->tenant->suspended;
        sub_tick(s->queue, b->now_ms, b->wall_ms); /* leases that ended are handed out now */
        size_t served = may && left && !limits_rows_wait_ms(s) ? serve_round(b, s) : 0;
        left -= served < left ? served : left;
        deliver_arm(s);
        if (served || (may && !left)) { /* there may be more: after those that wait */
            if (!s->listed) {
                s->listed = true;
                s->next = later;
                later = s;
            }
        } else if (may) {
            look_for_consumers(s);
        }
    }
    while (later) {
        struct bsub *s = later;
        later = s->next;
        s->next = b->to_serve;
        b->to_serve = s;
    }
    return b->to_serve != NULL;
}
