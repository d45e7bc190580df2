#include "spans.h"

#include "base/clk.h"
#include "base/mem.h"
#include "base/trace_context.h"

#include <sodium.h>
#include <string.h>

enum {
    TENANT_PER_S = 50, /* spans of each kind */
    ALL_PER_S = 250,
    REQUEST_SPANS = 16,   /* of one request */
    TENANT_FLIGHTS = 512, /* messages with consumers; each ack looks through its consumer's (5 us) */
    MAX_LINKS = 32,
    FLUSH_BYTES = 64 << 10,
    SPAN_AT = 17, /* of packed traces */
    FLAGS_AT = 25,
    SPAN_BYTES = 8,
};
_Static_assert((int)MESSAGE_TRACE_BYTES == (int)TRACE_PACKED_BYTES && (int)WIRE_TRACE_BYTES == (int)TRACE_PACKED_BYTES,
               "the same everywhere");

/* What a `publish` span that waits for the end of the turn will tell. */
struct span_begun {
    struct broker_stream *stream; /* NULL: it is gone */
    unsigned char parent[TRACE_PACKED_BYTES], own[TRACE_PACKED_BYTES];
    int64_t from_ms;
    size_t n, n_bytes;
};

/* ---- how many ---- */

static bool is_exported(const struct broker *b)
{
    return b->conf->platform.otlp.traces;
}

static bool may_tell(struct broker *b, struct broker_tenant *t, enum span_kind kind)
{
    if (t->n_spans[kind] >= TENANT_PER_S || b->n_spans[kind] >= ALL_PER_S) {
        b->n_spans_dropped++;
        return false;
    }
    t->n_spans[kind]++;
    b->n_spans[kind]++;
    return true;
}

/* ---- lines ---- */

static void add_traceparent(struct buf *line, const char *key, const unsigned char *trace)
{
    char text[TRACE_PARENT_SIZE];
    if (trace_parent_unpack(trace, text))
        json_str(line, key, text);
}

static void begin_line(struct buf *line, const struct broker_stream *st, const char *name, const unsigned char *own,
                       int64_t from_ms)
{
    const int64_t now = st->b->wall_ms;
    json_begin(line, NULL, '{');
    json_time(line, "ts", now);
    json_str(line, "event", "span");
    json_str(line, "name", name);
    add_traceparent(line, "own", own);
    json_time(line, "from", from_ms < now ? from_ms : now);
    json_str(line, "tenant_id", st->tenant->id);
    json_str(line, "stream", st->name);
}

static void flush(struct broker *b, struct broker_tenant *t)
{
    if (t->spans.n && keeper_spans(b->keeper, t->id, t->spans.p, t->spans.n) < 0)
        b->n_spans_dropped += t->n_spans_waiting;
    else
        b->n_spans_told += t->n_spans_waiting;
    t->spans.n = 0;
    t->n_spans_waiting = 0;
}

static void end_line(struct broker *b, struct broker_tenant *t, struct buf *line)
{
    json_end(line, '}');
    buf_adds(line, "\n");
    buf_add(&t->spans, line->p, line->n);
    t->n_spans_waiting++;
    if (t->spans.n >= FLUSH_BYTES)
        flush(b, t);
}

void spans_tick(struct broker *b)
{
    size_t i = 0;
    for (struct broker_tenant *t; (t = map_next(&b->tenants, &i));) {
        flush(b, t);
        memset(t->n_spans, 0, sizeof t->n_spans);
    }
    memset(b->n_spans, 0, sizeof b->n_spans);
}

/* ---- publishing ---- */

static struct span_begun *begin_span(struct broker_stream *st, const unsigned char *parent)
{
    struct span_begun x = {.stream = st, .from_ms = st->b->wall_ms};
    memcpy(x.parent, parent, sizeof x.parent);
    memcpy(x.own, parent, sizeof x.own);
    randombytes_buf(x.own + SPAN_AT, SPAN_BYTES);
    x.own[SPAN_AT] |= 1; /* never all zero */
    buf_add(&st->b->spans_begun, &x, sizeof x);
    return (struct span_begun *)(st->b->spans_begun.p + st->b->spans_begun.n) - 1;
}

/* What a tenant sent, as version 00 has it; false: it is none. */
static bool take(const unsigned char *sent, unsigned char *ret)
{
    static const unsigned char none[16];
    memcpy(ret, sent, TRACE_PACKED_BYTES);
    ret[0] = 0;
    ret[FLAGS_AT] &= 1;
    return sent[0] != 0xff && memcmp(sent + 1, none, 16) && memcmp(sent + SPAN_AT, none, SPAN_BYTES);
}

/* The span of this request that a message with this trace belongs to; NULL: none more is told. Neighbours of one trace share one.
 */
static struct span_begun *span_for(struct broker_stream *st, struct spans_traces *t, const unsigned char *trace)
{
    struct broker *b = st->b;
    struct span_begun *last = t->begun ? (struct span_begun *)(b->spans_begun.p + b->spans_begun.n) - 1 : NULL;
    if (last && !memcmp(last->parent, trace, sizeof last->parent))
        return last;
    if (t->begun == REQUEST_SPANS) {
        b->n_spans_dropped++;
        return NULL;
    }
    if (!may_tell(b, st->tenant, SPAN_PUBLISH))
        return NULL;
    t->begun++;
    return begin_span(st, trace);
}

void spans_begin(struct broker_stream *st, const struct wire_request *rq, struct spans_traces *ret)
{
    *ret = (struct spans_traces){.n = rq->n_traces};
    if (!rq->n_traces)
        return;
    ret->v = xmalloc(ret->n * TRACE_PACKED_BYTES);
    ret->are = xcalloc(ret->n, sizeof *ret->are);
    for (size_t i = 0; i < ret->n; i++) {
        unsigned char *own = ret->v + i * TRACE_PACKED_BYTES;
        size_t n = ret->n == 1 ? rq->n : 1, n_bytes = ret->n == 1 ? rq->n_bytes : le_u32(rq->lengths + i * 4);
        ret->are[i] = take(rq->traces + i * TRACE_PACKED_BYTES, own);
        if (!ret->are[i] || !own[FLAGS_AT] || !is_exported(st->b))
            continue;
        struct span_begun *span = span_for(st, ret, own);
        if (!span)
            continue;
        span->n += n;
        span->n_bytes += n_bytes;
        memcpy(own, span->own, sizeof span->own);
    }
}

const void *spans_trace_of(const struct spans_traces *t, size_t i)
{
    size_t at = t->n == 1 ? 0 : i;
    return t->n && t->are[at] ? t->v + at * TRACE_PACKED_BYTES : NULL;
}

void spans_stored(struct broker *b, struct spans_traces *t, size_t n_stored)
{
    if (!n_stored)
        b->spans_begun.n -= t->begun * sizeof(struct span_begun);
    free(t->v);
    free(t->are);
}

void spans_hold(struct broker *b, struct spans_traces *t, struct buf *held)
{
    size_t n = t->begun * sizeof(struct span_begun);
    if (n)
        buf_add(held, b->spans_begun.p + b->spans_begun.n - n, n);
    spans_stored(b, t, 0);
}

void spans_give_back(struct broker *b, const struct buf *held)
{
    if (held->n)
        buf_add(&b->spans_begun, held->p, held->n);
}

void spans_committed(struct broker *b)
{
    const struct span_begun *v = (const struct span_begun *)b->spans_begun.p;
    AUTO_BUF struct buf line = {0};
    if (!b->spans_begun.n)
        return;
    broker_look_at_clocks(b);
    for (size_t i = 0; i < b->spans_begun.n / sizeof *v; i++) {
        if (!v[i].stream)
            continue;
        line.n = 0;
        begin_line(&line, v[i].stream, "publish", v[i].own, v[i].from_ms);
        add_traceparent(&line, "parent", v[i].parent);
        json_i64(&line, "messages", (int64_t)v[i].n);
        json_i64(&line, "bytes", (int64_t)v[i].n_bytes);
        end_line(b, v[i].stream->tenant, &line);
    }
    b->spans_begun.n = 0;
}

void spans_forget(const struct broker_stream *st)
{
    struct span_begun *v = (struct span_begun *)st->b->spans_begun.p;
    for (size_t i = 0; i < st->b->spans_begun.n / sizeof *v; i++)
        if (v[i].stream == st)
            v[i].stream = NULL;
}

/* ---- consuming ---- */

void spans_delivered(struct broker_consumer *bc, uint64_t seq, const unsigned char *trace)
{
    struct broker_stream *st = ((struct broker_sub *)sub_tag(consumer_sub(bc->consumer)))->stream;
    if (!is_exported(st->b) || !(trace[FLAGS_AT] & 1))
        return;
    if (st->tenant->n_flights >= TENANT_FLIGHTS) {
        st->b->n_spans_dropped++;
        return;
    }
    bc->flights = xgrow(bc->flights, bc->n_flights, sizeof *bc->flights);
    struct flight *f = &bc->flights[bc->n_flights++];
    *f = (struct flight){.seq = seq, .from_ms = st->b->wall_ms};
    memcpy(f->trace, trace, sizeof f->trace);
    st->tenant->n_flights++;
}

static void tell_process(struct broker_consumer *bc, const struct flight *v, size_t n, uint64_t n_rows, const char *why)
{
    struct broker_sub *bs = sub_tag(consumer_sub(bc->consumer));
    struct broker *b = bs->stream->b;
    unsigned char own[TRACE_PACKED_BYTES];
    AUTO_BUF struct buf line = {0};
    int64_t from_ms = v[0].from_ms;
    if (!may_tell(b, bs->stream->tenant, SPAN_PROCESS))
        return;
    for (size_t i = 1; i < n; i++)
        from_ms = v[i].from_ms < from_ms ? v[i].from_ms : from_ms;
    randombytes_buf(own, sizeof own);
    own[0] = 0;
    own[1] |= 1;
    own[SPAN_AT] |= 1;
    own[FLAGS_AT] = 1;
    begin_line(&line, bs->stream, "process", own, from_ms);
    json_str(&line, "app", sub_name(bs->sub));
    json_i64(&line, "messages", (int64_t)n);
    json_i64(&line, "rows", n_rows == UINT64_MAX ? -1 : (int64_t)n_rows);
    json_str(&line, "error", why);
    json_begin(&line, "links", '[');
    for (size_t i = 0; i < n; i++)
        add_traceparent(&line, NULL, v[i].trace);
    json_end(&line, ']');
    end_line(b, bs->stream->tenant, &line);
}

static const struct range *range_of(const struct range *v, size_t n, uint64_t seq)
{
    size_t lo = 0, hi = n;
    while (lo < hi) { /* the first that ends at seq or later */
        size_t mid = (lo + hi) / 2;
        if (v[mid].last < seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && v[lo].first <= seq ? &v[lo] : NULL;
}

void spans_settled(struct broker_consumer *bc, const struct range *v, const uint32_t *rows, size_t n, const char *why)
{
    struct flight found[MAX_LINKS];
    size_t n_found = 0, kept = 0, of = bc->n_flights;
    uint64_t n_rows = 0;
    for (size_t i = 0; i < of; i++) {
        const struct range *r = range_of(v, n, bc->flights[i].seq);
        if (!r) {
            bc->flights[kept++] = bc->flights[i];
            continue;
        }
        n_rows += rows ? rows[r - v] : 0;
        found[n_found++] = bc->flights[i];
        if (n_found == MAX_LINKS) {
            tell_process(bc, found, n_found, rows ? n_rows : UINT64_MAX, why);
            n_found = n_rows = 0;
        }
    }
    if (n_found)
        tell_process(bc, found, n_found, rows ? n_rows : UINT64_MAX, why);
    ((struct broker_sub *)sub_tag(consumer_sub(bc->consumer)))->stream->tenant->n_flights -= of - kept;
    bc->n_flights = kept;
}

void spans_end(struct broker_consumer *bc, const char *why)
{
    if (why && bc->n_flights)
        spans_settled(bc, &(struct range){0, UINT64_MAX}, NULL, 1, why);
    ((struct broker_sub *)sub_tag(consumer_sub(bc->consumer)))->stream->tenant->n_flights -= bc->n_flights;
    free(bc->flights);
    bc->flights = NULL;
    bc->n_flights = 0;
}
