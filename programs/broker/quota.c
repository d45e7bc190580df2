#include "quota.h"
#include "parts.h"

#include <inttypes.h>
#include <stdio.h>

enum { NO_SHARE_MS = 1000 }; /* it may be given partitions by then */

static int64_t max_request_bytes(const struct conf_stream *c)
{
    return c->max_message_bytes > WIRE_MIN_REQUEST_BYTES ? c->max_message_bytes : WIRE_MIN_REQUEST_BYTES;
}

/* What may come at once. A single message may always come; where it is larger than the burst, the time after it pays. */
static int64_t burst_bytes(const struct conf_stream *c)
{
    int64_t n = bucket_size(c->max_bytes_per_s, c->burst_ms);
    return n > c->max_message_bytes ? n : c->max_message_bytes;
}

int64_t quota_messages(const struct conf_stream *c)
{
    int64_t n = bucket_size(c->max_messages_per_s, c->burst_ms);
    return n < c->max_messages_per_request ? n : c->max_messages_per_request;
}

int64_t quota_bytes(const struct conf_stream *c)
{
    int64_t n = burst_bytes(c), most = max_request_bytes(c);
    return n < most ? n : most;
}

int64_t quota_request_bytes(const struct wire_request *rq)
{
    return (int64_t)(rq->n_bytes + rq->n_traces * WIRE_TRACE_BYTES);
}

/* WIRE_N_CODES, or why the request would be refused at any time. Its messages alone count: who publishes knows how many bytes they
 * may have (DESCRIBED). */
static enum wire_code is_too_large(const struct conf_stream *c, const struct wire_request *rq, char *text, size_t size)
{
    for (size_t i = 0; i < rq->n; i++)
        if (le_u32(rq->lengths + i * 4) > c->max_message_bytes) {
            snprintf(text, size, "a message of %" PRIu32 " bytes; max_message_bytes is %" PRId64, le_u32(rq->lengths + i * 4),
                     c->max_message_bytes);
            return WIRE_size;
        }
    if ((int64_t)rq->n > c->max_messages_per_request) {
        snprintf(text, size, "%zu messages in one request; max_messages_per_request is %" PRId64, rq->n,
                 c->max_messages_per_request);
        return WIRE_quota;
    }
    if ((int64_t)rq->n_bytes > max_request_bytes(c)) {
        snprintf(text, size, "a request of %zu bytes; at most %" PRId64 " fit into one", rq->n_bytes, max_request_bytes(c));
        return WIRE_size;
    }
    int64_t most = bucket_size(c->max_messages_per_s, c->burst_ms);
    if ((int64_t)rq->n > most) {
        snprintf(text, size,
                 "%zu messages in one request; of max_messages_per_s = %" PRId64 ", %" PRId64 " may come at once (burst_ms)", rq->n,
                 c->max_messages_per_s, most);
        return WIRE_quota;
    }
    if ((int64_t)rq->n_bytes > burst_bytes(c)) {
        snprintf(text, size, "a request of %zu bytes; of max_bytes_per_s = %" PRId64 ", %" PRId64 " may come at once (burst_ms)",
                 rq->n_bytes, c->max_bytes_per_s, burst_bytes(c));
        return WIRE_size;
    }
    return WIRE_N_CODES;
}

enum wire_code quota_broken(struct broker_stream *st, const struct wire_request *rq, int64_t *ret_wait_ms, char *text, size_t size)
{
    const struct conf_stream *c = &st->conf;
    int64_t now_ms = st->b->now_ms;
    enum wire_code code = is_too_large(c, rq, text, size);
    if (code != WIRE_N_CODES)
        return code;
    const int64_t messages = parts_share(st, c->max_messages_per_s), bytes = parts_share(st, c->max_bytes_per_s);
    int64_t wait_ms = bucket_wait_ms(&st->messages, messages, c->burst_ms, (int64_t)rq->n, now_ms);
    int64_t bytes_ms = wait_ms ? 0 : bucket_wait_ms(&st->bytes, bytes, c->burst_ms, quota_request_bytes(rq), now_ms);
    if (!wait_ms && !bytes_ms)
        return WIRE_N_CODES;
    const int64_t limit = wait_ms ? c->max_messages_per_s : c->max_bytes_per_s, share = wait_ms ? messages : bytes;
    int n = snprintf(text, size, "%s is %" PRId64, wait_ms ? "max_messages_per_s" : "max_bytes_per_s", limit);
    if (share != limit && n > 0 && (size_t)n < size)
        snprintf(text + n, size - (size_t)n, ", of which this broker has %" PRId64, share);
    *ret_wait_ms = share ? wait_ms + bytes_ms : NO_SHARE_MS;
    return WIRE_rate;
}

void quota_take(struct broker_stream *st, const struct wire_request *rq)
{
    bucket_take(&st->messages, st->conf.max_messages_per_s, (int64_t)rq->n);
    bucket_take(&st->bytes, st->conf.max_bytes_per_s, quota_request_bytes(rq));
}

void quota_take_rows(struct broker_sub *bs, uint64_t n)
{
    bucket_take(&bs->rows, bs->stream->conf.max_rows_per_s, (int64_t)n);
}

int64_t quota_rows_wait_ms(struct broker_sub *bs)
{
    const struct conf_stream *c = &bs->stream->conf;
    return bucket_wait_ms(&bs->rows, parts_share(bs->stream->whole, c->max_rows_per_s), c->burst_ms, 1, bs->stream->b->now_ms);
}
