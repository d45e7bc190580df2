/* How a consumer settles what it got: acks, nacks, and extended leases. */
#include "parts.h"

void sub_log_ranges(const struct sub *s, int type, const struct range *v, size_t n)
{
    AUTO_BUF struct buf b = {0};
    le_add_u32(&b, s->id);
    le_add_u32(&b, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        le_add_u64(&b, v[i].first < s->floor ? s->floor : v[i].first);
        le_add_u64(&b, v[i].last >= s->cursor ? s->cursor - 1 : v[i].last);
    }
    log_event(s->stream->all, type, b.p, b.n);
}

static uint64_t ack_one(struct sub *s, uint64_t seq, struct slot *t, int64_t now_ms)
{
    if (t->state == SLOT_DONE || t->state == SLOT_DEAD || !t->deliveries)
        return 0;
    if (t->state == SLOT_LEASED)
        sub_add_time(s, now_ms - t->since_ms);
    uint32_t bytes = t->bytes;
    if (t->state != SLOT_LEASED && !bytes) { /* it was delivered before a restart, and not since */
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
        sub_log_ranges(s, REC_ACK, v, n);
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
            if (slot_is_held(t, c->id)) {
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
        sub_fail(s, seq, t, true, k->reason, k->wall_ms);
        return;
    }
    sub_count(s, TALLY_ERRORS, 1);
    sub_set_state(s, seq, t, SLOT_DELAYED);
    t->until_ms = k->until_ms;
    sub_add_timed(s, (struct timed){k->until_ms, seq, seq, 0});
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
