/* Reading the log at start: each record is applied to what is in memory, as if what it tells of happened again. What it leaves
 * open is settled by recover.c. */
#include "parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>

static bool load_stream(struct streams *all, const unsigned char *p, size_t n)
{
    uint32_t id, n_name;
    uint64_t next_seq;
    if (!take_u32(&p, &n, &id) || !take_u32(&p, &n, &n_name) || !take_u64(&p, &n, &next_seq) || n != EPOCH_BYTES + (size_t)n_name ||
        !next_seq)
        return false;
    struct stream *st = streams_by_id(all, 's', id);
    if (!st) {
        AUTO_FREE char *name = xstrndup((const char *)p + EPOCH_BYTES, n_name);
        st = stream_new(all, name, id);
        map_put(arrivals_map_of(all, name), name, st);
        register_id(all, 's', id, st);
    } else if (arrivals_is_name(st->name) && n_name &&
               !arrivals_is_name((const char *)p + EPOCH_BYTES)) { /* the record that says so was lost */
        arrivals_take_name(st);
    }
    stream_load_epoch(st, p, next_seq);
    if (next_seq > st->next_seq)
        st->next_seq = next_seq;
    return true;
}

static bool load_ranges(struct sub *s, int type, const unsigned char *p, size_t n)
{
    uint32_t n_ranges;
    if (!take_u32(&p, &n, &n_ranges) || n != n_ranges * sizeof(struct range))
        return false;
    for (struct range r; n_ranges-- && take_u64(&p, &n, &r.first) && take_u64(&p, &n, &r.last);)
        sub_load_ranges(s, type, &r, 1);
    return true;
}

static bool load_dead(struct sub *s, const unsigned char *p, size_t n)
{
    uint32_t deliveries;
    uint64_t seq, wall_ms;
    if (!take_u32(&p, &n, &deliveries) || !take_u64(&p, &n, &seq) || !take_u64(&p, &n, &wall_ms) || seq >= s->stream->next_seq)
        return false;
    sub_load_dead(s, seq, deliveries, (int64_t)wall_ms, (const char *)p, n);
    return true;
}

static bool load_on_sub(struct streams *all, int type, uint32_t id, const unsigned char *p, size_t n)
{
    struct sub *s = streams_by_id(all, 'u', id);
    uint32_t zero;
    uint64_t seq;
    if (!s)
        return true; /* it was dropped later, or the record that made it is damaged, which was reported */
    switch (type) {
    case REC_SUB_DROP:
        stream_drop_sub(s->stream, s);
        return true;
    case REC_ACK:
    case REC_DELIVERED:
        return load_ranges(s, type, p, n);
    case REC_DEAD:
        return load_dead(s, p, n);
    default:
        if (!take_u32(&p, &n, &zero) || !take_u64(&p, &n, &seq))
            return false;
        if (type == REC_REPLAY)
            sub_replay(s, seq);
        else
            sub_drop_dead(s, seq);
        return true;
    }
}

static bool load_on_stream(struct streams *all, const struct seglog_pos *at, int type, uint32_t id, const unsigned char *body,
                           size_t n_body, const unsigned char *p, size_t n)
{
    struct stream *st = streams_by_id(all, 's', id);
    uint32_t zero;
    uint64_t first;
    if (!st)
        return true;
    switch (type) {
    case REC_STREAM_DROP:
        streams_drop(all, st);
        return true;
    case REC_PUBLISHERS:
        return publishers_load(st, p, n);
    case REC_MESSAGES:
        return messages_load(st, at, body, n_body);
    case REC_EPOCHS:
        return epochs_load(st, p, n);
    case REC_GAPS:
        return gaps_load(st, p, n);
    case REC_TRACES:
        return traces_load(st, at, body, n_body);
    case REC_MIRROR:
        return mirror_load(st, p, n);
    case REC_WHOLE:
        return arrivals_load_whole(st, p, n);
    default:
        if (!take_u32(&p, &n, &zero) || !take_u64(&p, &n, &first) || first > st->next_seq)
            return false;
        expired_load(st, first);
        return true;
    }
}

static bool load_tally(const struct streams *all, uint32_t id, const unsigned char *p, size_t n)
{
    struct stream *st = streams_by_id(all, 's', id);
    struct sub *s = st ? NULL : streams_by_id(all, 'u', id);
    return st ? tally_load(&st->tally, p, n) : s ? tally_load(&s->tally, p, n) : true;
}

void streams_on_record(void *arg, const struct seglog_pos *at, int type, const unsigned char *body, size_t n_body)
{
    struct streams *all = arg;
    const unsigned char *p = body;
    size_t n = n_body;
    uint32_t id, stream;
    bool ok = take_u32(&p, &n, &id);
    if (ok && type == REC_STREAM)
        ok = load_stream(all, body, n_body);
    else if (ok && type == REC_SUB)
        ok = take_u32(&p, &n, &stream) &&
             (!streams_by_id(all, 's', stream) || sub_load_record(streams_by_id(all, 's', stream), id, p, n));
    else if (ok && type == REC_SETTLED)
        ok = arrivals_load_settled(all, p, n);
    else if (ok && type == REC_TALLY)
        ok = load_tally(all, id, p, n);
    else if (ok && (type == REC_STREAM_DROP || type == REC_PUBLISHERS || type == REC_MESSAGES ||
                    (type >= REC_EXPIRED && type <= REC_GAPS) || type == REC_TRACES || type == REC_MIRROR || type == REC_WHOLE))
        ok = load_on_stream(all, at, type, id, body, n_body, p, n);
    else if (ok && type <= REC_DROP_DEAD)
        ok = load_on_sub(all, type, id, p, n);
    if (!ok)
        log_error("store_record", NULL, NULL,
                  "a record of type %d in segment %016" PRIx64 " at %" PRIu32 " cannot be understood and is left out", type,
                  at->segment, at->offset);
}
