/* What is in a topic, into the store's copy, in order. */
#include "kafka_parts.h"

#include "deliver.h"

#include "base/le.h"
#include "base/mem.h"

enum { RUN_BYTES = 256 << 10, RUN_MESSAGES = 4096, STUCK_MS = 1000 };

static const unsigned char no_trace[KAFKA_TRACE];

void kafka_drop_run(struct kafka_stream *k)
{
    struct kafka *all = k->st->b->kafka;
    if (all->at == k)
        all->at = NULL;
    k->run.n = k->run.bytes.n = k->run.lengths.n = k->run.traces.n = 0;
}

/* What an earlier store had done, of what has come. */
static void skip_done(struct kafka_stream *k, struct broker_sub *bs)
{
    struct stream_figures f;
    const struct range *v = (const struct range *)bs->kafka_done.p;
    size_t n = bs->kafka_done.n / sizeof *v, gone = 0;
    stream_figures(k->st->stream, &f);
    for (size_t i = 0; i < n && v[i].first < f.next_seq; i++) {
        sub_skip(bs->sub, v[i]);
        gone += v[i].last < f.next_seq;
    }
    if (gone)
        buf_consume(&bs->kafka_done, gone * sizeof *v);
}

static int store_run(struct kafka_stream *k)
{
    struct run *r = &k->run;
    struct stream_figures f;
    stream_figures(k->st->stream, &f);
    size_t from = f.next_seq > r->seq ? (size_t)(f.next_seq - r->seq) : 0; /* what was stored before the room ended */
    AUTO_FREE struct message *v = xmalloc((r->n + 1) * sizeof *v);
    const char *p = r->bytes.p;
    for (size_t i = 0; i < r->n; i++) {
        const char *trace = r->traces.p + i * KAFKA_TRACE;
        v[i] = (struct message){p, le_u32(r->lengths.p + i * 4), memcmp(trace, no_trace, KAFKA_TRACE) ? trace : NULL};
        p += v[i].n;
    }
    if (from >= r->n)
        return 0;
    return stream_mirror(k->st->stream, r->seq + from, r->publisher, r->number + from, v + from, r->n - from, r->wall_ms);
}

void kafka_flush(struct broker *b)
{
    struct kafka_stream *k = b->kafka->at;
    if (!k)
        return;
    int r = store_run(k);
    size_t i = 0;
    for (struct sub *sub; (sub = stream_next_sub(k->st->stream, &i));) {
        skip_done(k, sub_tag(sub));
        deliver_want(sub_tag(sub));
    }
    broker_turn_soon(b);
    kafka_drop_run(k);
    if (r < 0) /* Kafka has it, and gives it again */
        kafka_close(k, STUCK_MS, "the broker's disk is full");
}

static bool continues(const struct run *r, uint64_t seq, uint64_t publisher, uint64_t number, int64_t wall_ms, size_t bytes)
{
    return r->n && r->n < RUN_MESSAGES && seq == r->seq + r->n && publisher == r->publisher && wall_ms == r->wall_ms &&
           (!publisher || number == r->number + r->n) && r->bytes.n + bytes <= RUN_BYTES;
}

bool kafka_on_record(struct kafka_stream *k, const unsigned char *p, size_t n)
{
    struct broker *b = k->st->b;
    uint64_t offset, publisher, number, wall_ms;
    uint32_t traced;
    struct stream_figures f;
    if (!kafka_take_u64(&p, &n, &offset) || !kafka_take_u64(&p, &n, &publisher) || !kafka_take_u64(&p, &n, &number) ||
        !kafka_take_u64(&p, &n, &wall_ms) || !kafka_take_u32(&p, &n, &traced) || (traced && n < KAFKA_TRACE))
        return false;
    const unsigned char *trace = traced ? p : no_trace;
    p += traced ? KAFKA_TRACE : 0;
    n -= traced ? KAFKA_TRACE : 0;
    if (k->state != KAFKA_FOLLOWS)
        return true;
    uint64_t seq = kafka_seq(k, offset);
    stream_figures(k->st->stream, &f);
    if (seq < f.next_seq || (k->run.n && seq < k->run.seq + k->run.n))
        return true; /* it is here */
    if (b->kafka->at && (b->kafka->at != k || !continues(&k->run, seq, publisher, number, (int64_t)wall_ms, n)))
        kafka_flush(b);
    if (k->state != KAFKA_FOLLOWS)
        return true; /* there was no room */
    struct run *r = &k->run;
    if (!r->n) {
        r->seq = seq;
        r->publisher = publisher;
        r->number = number;
        r->wall_ms = (int64_t)wall_ms;
    }
    b->kafka->at = k;
    r->n++;
    le_add_u32(&r->lengths, (uint32_t)n);
    buf_add(&r->bytes, p, n);
    buf_add(&r->traces, trace, KAFKA_TRACE);
    return true;
}
