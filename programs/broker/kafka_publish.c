/* Requests that go to Kafka, and what becomes of them.
 *
 *   Kafka confirms it                       CONFIRM
 *   no answer comes for long                further requests are refused (full); those under way wait, SLOW_MS
 *   Kafka's library gives one up            refused (full); it may be there all the same. Sent again under the same numbers, it is
 *                                           stored once: the copy passes over what it has (store/mirror.c)
 *   simbdp-kafka ends                       the same
 *   a request comes again meanwhile         it is not sent twice, and both are answered
 *   too much is under way                   refused (busy)
 *   we end                                  nobody was told; publishers send again */
#include "kafka_parts.h"

#include "answers.h"
#include "parts.h"
#include "quota.h"
#include "spans.h"

#include "base/le.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    STREAM_BYTES = 8 << 20, /* under way */
    TENANT_BYTES = 16 << 20,
    ALL_BYTES = 64 << 20,
    OVERHEAD = 256,
    MAX_ALSO = 10000, /* what is sent again beyond is sent on, and passed over */
    SLOW_MS = 5000,
    RETRY_MS = 1000,
    BUSY_MS = 50,
};

static void key_of(uint64_t publisher, uint64_t number, uint32_t n, char out[64])
{
    snprintf(out, 64, "%" PRIx64 ".%" PRIx64 ".%" PRIx32, publisher, number, n);
}

/* ---- answers ---- */

static void take_out(struct kafka_stream *k, struct flight_out **at)
{
    struct flight_out *f = *at;
    char key[64];
    *at = f->next;
    if (k->last == &f->next)
        k->last = at;
    k->bytes -= f->bytes;
    k->st->b->kafka->bytes -= f->bytes;
    k->st->tenant->kafka_bytes -= f->bytes;
    key_of(f->publisher, f->number, f->n, key);
    if (f->publisher && map_get(&k->by_number, key) == f)
        map_remove(&k->by_number, key);
}

static void answer_one(const struct flight_out *f, uint64_t first_seq, const char *why)
{
    if (f->session && *why)
        answer_refuse(f->session, &f->h, WIRE_full, RETRY_MS, "Kafka has not confirmed it: %s", why);
    else if (f->session)
        answer_confirm(f->session, &f->h, first_seq, f->n - f->known, f->known);
}

/* And those that are the same. */
static void answer_all(struct kafka_stream *k, struct flight_out **at, uint64_t first_seq, const char *why)
{
    struct flight_out *f = *at;
    take_out(k, at);
    answer_one(f, first_seq, why);
    if (!*why)
        spans_give_back(k->st->b, &f->spans);
    buf_fini(&f->spans);
    for (struct flight_out *also; (also = f->also);) {
        f->also = also->also;
        answer_one(also, first_seq, why);
        free(also);
        k->n_also--;
    }
    free(f);
}

void kafka_refuse_all(struct kafka_stream *k, const char *why)
{
    while (k->first)
        answer_all(k, &k->first, 0, why);
}

bool kafka_on_produced(struct kafka_stream *k, const unsigned char *p, size_t n)
{
    struct broker *b = k->st->b;
    uint64_t id, offset;
    if (!kafka_take_u64(&p, &n, &id))
        return false;
    AUTO_FREE char *why = kafka_take_str(&p, &n);
    if (!why || !kafka_take_u64(&p, &n, &offset))
        return false;
    struct flight_out **at = &k->first; /* mostly it is the first */
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    if (!*at)
        return true; /* it was refused already */
    const bool known = offset != KAFKA_OFFSET_UNKNOWN;
    uint64_t seq = known ? kafka_seq(k, offset) : 0, behind = known ? seq + (*at)->n - (*at)->known : 0;
    kafka_right(k, KAFKA_MAY_PUBLISH, why);
    const bool placed = known && (!k->shared || k->state == KAFKA_FOLLOWS); /* else its sequence is another broker's to say */
    bool confirmed = !*why, again = confirmed && known && k->state == KAFKA_FOLLOWS && behind <= (*at)->floor;
    answer_all(k, at, placed ? parts_wire_seq(k->st, seq) : 0, why);
    broker_turn_soon(b);
    if (!confirmed)
        stream_count_refusal(k->st->stream);
    else
        *b->kafka->down = 0;
    if (again) /* it counts from the beginning */
        kafka_close(k, 0, "the topic is another one");
    else if (confirmed && placed && behind > k->confirmed)
        k->confirmed = behind;
    return true;
}

void kafka_forget_session(struct session *s)
{
    for (struct kafka_stream *k = s->b->kafka->streams; k; k = k->next)
        for (struct flight_out *f = k->first; f; f = f->next)
            for (struct flight_out *x = f; x; x = x->also)
                x->session = x->session == s ? NULL : x->session;
}

/* ---- requests ---- */

static struct flight_out *flight(struct session *s, const struct wire_request *rq, uint32_t known)
{
    struct flight_out *f = xcalloc(1, sizeof *f);
    *f = (struct flight_out){.session = s, .h = rq->h, .publisher = rq->publisher, .number = rq->number, .n = (uint32_t)rq->n};
    f->known = known;
    f->since_ms = s->b->now_ms;
    return f;
}

/* One for all, or one for each that is sent. A message with a `publish` span belongs below that. */
static void add_traces(const struct flight_out *f, const struct spans_traces *t, struct buf *out)
{
    static const unsigned char none[KAFKA_TRACE];
    size_t from = t->n > 1 ? f->known : 0, n = t->n > 1 ? f->n : t->n;
    for (size_t i = from; i < n; i++) {
        const void *trace = spans_trace_of(t, i);
        buf_add(out, trace ? trace : none, KAFKA_TRACE);
    }
}

static void send_request(struct kafka_stream *k, struct flight_out *f, const struct wire_request *rq)
{
    struct broker *b = k->st->b;
    AUTO_BUF struct buf out = {0};
    const unsigned char *p = rq->bytes;
    size_t n_traces = rq->n_traces;
    struct spans_traces traces;
    spans_begin(k->st, rq, &traces);
    for (uint32_t i = 0; i < f->known; i++)
        p += le_u32(rq->lengths + (size_t)i * 4);
    kafka_frame_begin(&out, KAFKA_PRODUCE, k->number);
    le_add_u64(&out, f->id);
    le_add_u64(&out, rq->publisher);
    le_add_u64(&out, rq->number + f->known);
    le_add_u64(&out, (uint64_t)b->wall_ms);
    le_add_u32(&out, f->n - f->known);
    le_add_u32(&out, (uint32_t)(n_traces > 1 ? f->n - f->known : n_traces));
    le_add_u32(&out, (uint32_t)rq->n_key);
    if (rq->n_key)
        buf_add(&out, rq->key, rq->n_key);
    buf_add(&out, rq->lengths + (size_t)f->known * 4, (size_t)(f->n - f->known) * 4);
    add_traces(f, &traces, &out);
    spans_hold(b, &traces, &f->spans);
    for (size_t i = f->known; i < rq->n; i++) {
        size_t n = le_u32(rq->lengths + i * 4);
        buf_add(&out, p, n);
        p += n;
    }
    kafka_frame_send(b->kafka->link, &out);
}

/* True: it was refused. */
static bool cannot(struct session *s, const struct wire_request *rq, struct kafka_stream *k)
{
    struct broker *b = s->b;
    const char *name = stream_name(k->st->whole->stream);
    int64_t waits_ms = k->first ? b->now_ms - k->first->since_ms : 0, bytes = quota_request_bytes(rq) + OVERHEAD;
    if (k->leaving)
        answer_refuse(s, &rq->h, WIRE_busy, BUSY_MS, "stream %s moves out of Kafka", name);
    else if (k->shared && *b->kafka->fenced)
        answer_refuse(s, &rq->h, WIRE_full, RETRY_MS, "stream %s is not served by this broker: %s", name, b->kafka->fenced);
    else if (k->shared ? !k->known : k->state != KAFKA_FOLLOWS)
        answer_refuse(s, &rq->h, WIRE_full, RETRY_MS, "stream %s cannot reach its topic of Kafka: %s%s%s", name,
                      *k->why ? k->why : "it is being opened", *b->kafka->down ? ": " : "", b->kafka->down);
    else if (waits_ms > SLOW_MS)
        answer_refuse(s, &rq->h, WIRE_full, RETRY_MS, "stream %s: Kafka has confirmed nothing for %" PRId64 " s", name,
                      waits_ms / 1000);
    else if (k->bytes + bytes > STREAM_BYTES || k->st->tenant->kafka_bytes + bytes > TENANT_BYTES ||
             b->kafka->bytes + bytes > ALL_BYTES)
        answer_refuse(s, &rq->h, WIRE_busy, BUSY_MS, "stream %s: more is under way to Kafka than may be", name);
    else
        return false;
    stream_count_refusal(k->st->stream);
    return true;
}

void kafka_publish(struct session *s, const struct wire_request *rq, struct broker_stream *st)
{
    struct kafka_stream *k = st->kafka;
    char key[64];
    key_of(rq->publisher, rq->number, (uint32_t)rq->n, key);
    struct flight_out *same = rq->publisher ? map_get(&k->by_number, key) : NULL;
    if (same && k->n_also < MAX_ALSO) {
        struct flight_out *f = flight(s, rq, same->known);
        f->also = same->also;
        same->also = f;
        k->n_also++;
        return;
    }
    uint32_t known = (uint32_t)stream_n_known(st->stream, rq->publisher, rq->number, rq->n);
    if (known < rq->n && cannot(s, rq, k))
        return;
    quota_take(st->whole, rq);
    if (known == rq->n) {
        answer_confirm(s, &rq->h, 0, 0, known);
        return;
    }
    struct flight_out *f = flight(s, rq, known);
    f->floor = k->confirmed;
    f->id = ++s->b->kafka->last_request;
    f->bytes = quota_request_bytes(rq) + OVERHEAD;
    *k->last = f;
    k->last = &f->next;
    k->bytes += f->bytes;
    s->b->kafka->bytes += f->bytes;
    st->tenant->kafka_bytes += f->bytes;
    if (f->publisher && !same)
        map_put(&k->by_number, key, f);
    send_request(k, f, rq);
}
