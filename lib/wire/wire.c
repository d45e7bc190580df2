#include "wire.h"

#include <string.h>

static const char *const codes[] = {
#define X(name) #name,
    WIRE_CODES(X)
#undef X
};

const char *wire_code_name(enum wire_code code)
{
    return codes[code];
}

void wire_add_header(struct buf *b, enum wire_verb verb, uint16_t consumer, uint32_t request)
{
    unsigned char h[4] = {WIRE_VERSION, (unsigned char)verb, (unsigned char)consumer, (unsigned char)(consumer >> 8)};
    buf_add(b, h, sizeof h);
    le_add_u32(b, request);
}

bool wire_header(const struct wire_frame *f, struct wire_header *ret)
{
    const unsigned char *p = f->p;
    if (f->n != WIRE_HEADER_BYTES || p[0] != WIRE_VERSION)
        return false;
    *ret = (struct wire_header){p[1], (uint16_t)(p[2] | p[3] << 8), le_u32(p + 4)};
    return true;
}

/* Printable and without NUL: names go into messages and logs. */
static bool take_text(const struct wire_frame *f, char *out, size_t max)
{
    const unsigned char *p = f->p;
    if (f->n > max)
        return false;
    for (size_t i = 0; i < f->n; i++)
        if (p[i] < 0x20 || p[i] == 0x7f)
            return false;
    if (f->n)
        memcpy(out, f->p, f->n);
    out[f->n] = 0;
    return utf8_valid(out, f->n);
}

static bool parse_traces(const struct wire_frame *f, struct wire_request *rq)
{
    rq->traces = f->p;
    rq->n_traces = f->n / WIRE_TRACE_BYTES;
    return f->n % WIRE_TRACE_BYTES == 0 && (rq->n_traces == 1 || rq->n_traces == rq->n);
}

static bool parse_publish(const struct wire_frame *v, size_t n, struct wire_request *rq, const char **why)
{
    *why = "PUBLISH has five to seven frames: header, stream, ids (16 bytes or none), lengths, bytes, traceparents, key";
    if (n < 5 || n > 7 || (v[2].n != 16 && v[2].n) || v[3].n % 4 || !v[3].n)
        return false;
    *why = "PUBLISH: the stream's name is empty, too long, or no text";
    if (!v[1].n || !take_text(&v[1], rq->stream, WIRE_MAX_NAME))
        return false;
    if (v[2].n) {
        rq->publisher = le_u64(v[2].p);
        rq->number = le_u64((const char *)v[2].p + 8);
    }
    rq->lengths = v[3].p;
    rq->n = v[3].n / 4;
    rq->bytes = v[4].p;
    rq->n_bytes = v[4].n;
    uint64_t sum = 0;
    for (size_t i = 0; i < rq->n; i++)
        sum += le_u32(rq->lengths + i * 4);
    *why = "PUBLISH: the lengths do not add up to the bytes";
    if (sum != rq->n_bytes)
        return false;
    *why = "PUBLISH: the publisher's numbers run over";
    if (rq->publisher && rq->number > UINT64_MAX - rq->n - 1)
        return false;
    *why = "PUBLISH: there is one traceparent of 26 bytes, or one for each message";
    if (n > 5 && (n == 6 || v[5].n) && !parse_traces(&v[5], rq))
        return false;
    *why = "PUBLISH: the key has 1 to 1024 bytes";
    if (n < 7)
        return true;
    rq->key = v[6].p;
    rq->n_key = v[6].n;
    return rq->n_key && rq->n_key <= WIRE_MAX_KEY;
}

static bool parse_subscribe(const struct wire_frame *v, size_t n, struct wire_request *rq, const char **why)
{
    *why = "SUBSCRIBE has four or five frames: header, stream, subscription, window (12 bytes), what is wanted (4)";
    if (n < 4 || n > 5 || v[3].n != 12 || (n == 5 && v[4].n != 4))
        return false;
    rq->wants = n == 5 ? le_u32(v[4].p) : 0;
    rq->max_messages = le_u32(v[3].p);
    rq->max_bytes = le_u64((const char *)v[3].p + 4);
    *why = "SUBSCRIBE: a name is empty, too long, or no text";
    return v[1].n && v[2].n && take_text(&v[1], rq->stream, WIRE_MAX_NAME) && take_text(&v[2], rq->subscription, WIRE_MAX_NAME);
}

/* How many each message of a range made. */
static bool parse_rows(const struct wire_frame *f, struct wire_request *rq, const char **why)
{
    *why = "ACK: the rows have four bytes for each range, and are at most 65536 a message; the ranges are in order and apart";
    if (f->n != rq->n * 4)
        return false;
    rq->rows = f->p;
    for (size_t i = 0; i < rq->n; i++)
        if (le_u32(rq->rows + i * 4) > WIRE_MAX_ROWS || (i && wire_range_at(rq, i).first <= wire_range_at(rq, i - 1).last))
            return false;
    return true;
}

static bool parse_ranges(const struct wire_frame *v, size_t n, size_t frames, struct wire_request *rq, const char **why)
{
    bool has_rows = n == 3 && rq->h.verb == WIRE_ACK;
    *why = "EXTEND has two frames (header, ranges of 16 bytes), NACK four (and delay, reason), ACK two or three (and rows)";
    if ((n != frames && !has_rows) || v[1].n % 16 || !v[1].n || v[1].n / 16 > WIRE_MAX_RANGES)
        return false;
    rq->ranges = v[1].p;
    rq->n = v[1].n / 16;
    *why = "a range ends before it begins";
    for (size_t i = 0; i < rq->n; i++) {
        struct wire_range r = wire_range_at(rq, i);
        if (!r.first || r.first > r.last)
            return false;
    }
    if (has_rows)
        return parse_rows(&v[2], rq, why);
    if (frames == 2)
        return true;
    *why = "NACK: the delay has four bytes, the reason is text of at most 1024";
    if (v[2].n != 4 || !take_text(&v[3], rq->reason, WIRE_MAX_REASON))
        return false;
    rq->delay_ms = le_u32(v[2].p);
    return true;
}

bool wire_parse(const struct wire_frame *v, size_t n, struct wire_request *rq, const char **why)
{
    /* Not cleared as a whole: the texts are large, and each is set where it is used. */
    rq->h = (struct wire_header){0};
    rq->publisher = rq->number = 0;
    rq->stream[0] = rq->subscription[0] = rq->reason[0] = 0;
    rq->n = rq->n_bytes = rq->n_traces = 0;
    rq->rows = rq->key = NULL;
    rq->n_key = 0;
    *why = "the first frame is the header: version 1, verb, consumer, request";
    if (!n || !wire_header(&v[0], &rq->h))
        return false;
    switch (rq->h.verb) {
    case WIRE_PING:
    case WIRE_UNSUBSCRIBE:
        *why = "PING and UNSUBSCRIBE are a header alone";
        return n == 1;
    case WIRE_PUBLISH:
        return parse_publish(v, n, rq, why);
    case WIRE_SUBSCRIBE:
        return parse_subscribe(v, n, rq, why);
    case WIRE_ACK:
    case WIRE_EXTEND:
        return parse_ranges(v, n, 2, rq, why);
    case WIRE_DESCRIBE:
        *why = "DESCRIBE has two frames: header, stream";
        return n == 2 && v[1].n && take_text(&v[1], rq->stream, WIRE_MAX_NAME);
    case WIRE_NACK:
        return parse_ranges(v, n, 4, rq, why);
    default:
        *why = "no such verb";
        return false;
    }
}

struct wire_range wire_range_at(const struct wire_request *rq, size_t i)
{
    return (struct wire_range){le_u64(rq->ranges + i * 16), le_u64(rq->ranges + i * 16 + 8)};
}
