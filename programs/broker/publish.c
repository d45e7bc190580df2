#include "publish.h"
#include "answers.h"
#include "cut_off.h"
#include "deliver.h"
#include "kafka.h"
#include "lookup.h"
#include "moving.h"
#include "parts.h"
#include "quota.h"
#include "share.h"
#include "spans.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

enum { FULL_RETRY_MS = 1000 };

/* ---- what speaks against it ---- */

static void refuse_suspended(struct session *s, const struct wire_request *rq, const struct broker_stream *st)
{
    const char *name = stream_name(st->stream);
    if (st->cut_off == CUT_OFF_REJECTS)
        answer_refuse(
            s, &rq->h, WIRE_suspended, 0,
            "stream %s was cut off: of its messages an app refused more than max_reject_pct = %g; the operator resumes it", name,
            st->conf.max_reject_pct);
    else if (st->cut_off == CUT_OFF_BREACHES)
        answer_refuse(s, &rq->h, WIRE_suspended, 0,
                      "stream %s was cut off: %" PRId64 " breaches of its limits within %" PRId64 " s; the operator resumes it",
                      name, st->conf.breaches, st->conf.breach_window_s);
    else
        answer_refuse(s, &rq->h, WIRE_suspended, 0, "the tenant of stream %s is suspended", name);
}

/* What the stream's configuration says against this request; true when it was refused. */
static bool breaks_limits(struct session *s, struct broker_stream *st, const struct wire_request *rq)
{
    char text[200];
    int64_t wait_ms = 0;
    enum wire_code code = quota_broken(st, rq, &wait_ms, text, sizeof text);
    if (code == WIRE_N_CODES)
        return false;
    stream_count_refusal(st->stream);
    answer_refuse(s, &rq->h, code, wait_ms, "stream %s: %s", stream_name(st->stream), text);
    cut_off_count_breach(st, code, text);
    return true;
}

static bool has_no_room(struct session *s, struct broker_stream *st, const struct wire_request *rq)
{
    struct stream_figures f;
    parts_figures(st, &f);
    f.bytes += kafka_bytes_under_way(st) + kafka_bytes_elsewhere(st);
    bool capped = st->conf.max_stored_bytes >= 0 && f.bytes + quota_request_bytes(rq) > st->conf.max_stored_bytes;
    if (!capped && !streams_full(s->b->streams))
        return false;
    stream_count_refusal(st->stream);
    if (capped)
        answer_refuse(s, &rq->h, WIRE_full, FULL_RETRY_MS, "stream %s holds %" PRId64 " bytes; max_stored_bytes is %" PRId64,
                      stream_name(st->stream), f.bytes, st->conf.max_stored_bytes);
    else
        answer_refuse(s, &rq->h, WIRE_full, FULL_RETRY_MS, "the broker's disk is full");
    return true;
}

/* ---- storing ---- */

static void store_messages(struct session *s, const struct wire_request *rq, struct broker_stream *st)
{
    AUTO_FREE struct message *v = xmalloc(rq->n * sizeof *v);
    const unsigned char *p = rq->bytes;
    struct spans_traces traces;
    spans_begin(st, rq, &traces);
    for (size_t i = 0; i < rq->n; i++) {
        v[i] = (struct message){p, le_u32(rq->lengths + i * 4), spans_trace_of(&traces, i)};
        p += v[i].n;
    }
    uint64_t first;
    size_t known;
    int r = stream_publish(st->stream, rq->publisher, rq->number, v, rq->n, s->b->wall_ms, &first, &known);
    spans_stored(s->b, &traces, r < 0 ? 0 : rq->n - known);
    if (r < 0) {
        stream_count_refusal(st->stream);
        answer_refuse(s, &rq->h, WIRE_full, FULL_RETRY_MS, "the broker's disk is full: %s", err_text(r));
        return;
    }
    quota_take(st->whole, rq);
    answer_confirm(s, &rq->h, first ? parts_wire_seq(st, first) : 0, (uint32_t)(rq->n - known), (uint32_t)known);
    size_t i = 0;
    for (struct sub *sub; (sub = stream_next_sub(st->stream, &i));)
        deliver_want(sub_tag(sub));
}

static void publish(struct session *s, const struct wire_request *rq, struct broker_stream *st)
{
    share_take(st->tenant, rq);
    if (moving_refuses(s, &rq->h, st->tenant)) /* not counted: it is nobody's breach */
        return;
    if (st->tenant->suspended || st->cut_off != NOT_CUT_OFF) {
        stream_count_refusal(st->stream);
        refuse_suspended(s, rq, st);
        return;
    }
    if (breaks_limits(s, st, rq) || has_no_room(s, st, rq))
        return;
    struct broker_stream *part = parts_route(st, rq);
    if (kafka_keeps(part))
        kafka_publish(s, rq, part);
    else
        store_messages(s, rq, part);
}

void publish_request(struct session *s, const struct wire_request *rq, struct zmtp_message *m)
{
    struct broker_stream *st = lookup_stream(s, rq);
    if (!st)
        return;
    if (share_is_used_up(st->tenant))
        share_park(s, rq, st->tenant, m);
    else
        publish(s, rq, st);
}

void publish_parked(struct session *s, const struct wire_request *rq)
{
    struct broker_stream *st = lookup_stream(s, rq); /* it may be gone by now */
    if (st)
        publish(s, rq, st);
}
