#include "queue_parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MOVE_BYTES = 4 << 20 }; /* moved out of the oldest segment in one turn */

bool take_u32(const unsigned char **p, size_t *n, uint32_t *ret)
{
    if (*n < sizeof *ret)
        return false;
    *ret = le_u32(*p);
    *p += sizeof *ret;
    *n -= sizeof *ret;
    return true;
}

bool take_u64(const unsigned char **p, size_t *n, uint64_t *ret)
{
    if (*n < sizeof *ret)
        return false;
    *ret = le_u64(*p);
    *p += sizeof *ret;
    *n -= sizeof *ret;
    return true;
}

static void id_key(char kind, uint32_t id, char out[16])
{
    snprintf(out, 16, "%c%" PRIu32, kind, id);
}

void register_id(struct queues *q, char kind, uint32_t id, void *v)
{
    char key[16];
    id_key(kind, id, key);
    map_put(&q->by_id, key, v);
    if (id >= q->next_id)
        q->next_id = id + 1;
}

void unregister_id(struct queues *q, char kind, uint32_t id)
{
    char key[16];
    id_key(kind, id, key);
    map_remove(&q->by_id, key);
}

static void *by_id(const struct queues *q, char kind, uint32_t id)
{
    char key[16];
    id_key(kind, id, key);
    return map_get(&q->by_id, key);
}

/* What consumers do. When the disk has no room for it, it is done all the same, and would be done again after a restart. */
void log_event(struct queues *q, int type, const void *p, size_t n)
{
    struct iovec part = {(void *)p, n};
    if (!q->replaying && store_append(q->store, type, &part, 1, true, NULL) < 0)
        log_debug("log_event", NULL, NULL, "no room for a record of type %d", type);
}

/* ---- reading the log ---- */

static bool replay_stream(struct queues *q, const unsigned char *p, size_t n)
{
    uint32_t id, n_name;
    uint64_t next_seq;
    if (!take_u32(&p, &n, &id) || !take_u32(&p, &n, &n_name) || !take_u64(&p, &n, &next_seq) || n != QUEUE_EPOCH + (size_t)n_name ||
        !next_seq)
        return false;
    struct stream *st = by_id(q, 's', id);
    if (!st) {
        AUTO_FREE char *name = xstrndup((const char *)p + QUEUE_EPOCH, n_name);
        st = stream_new(q, name, id);
        map_put(&q->streams, name, st);
        register_id(q, 's', id, st);
    }
    stream_replay_epoch(st, p, next_seq);
    if (next_seq > st->next_seq)
        st->next_seq = next_seq;
    return true;
}

static bool replay_ranges(struct sub *s, int type, const unsigned char *p, size_t n)
{
    uint32_t n_ranges;
    if (!take_u32(&p, &n, &n_ranges) || n != n_ranges * sizeof(struct range))
        return false;
    for (struct range r; n_ranges-- && take_u64(&p, &n, &r.first) && take_u64(&p, &n, &r.last);)
        sub_replay_ranges(s, type, &r, 1);
    return true;
}

static bool replay_dead(struct sub *s, const unsigned char *p, size_t n)
{
    uint32_t deliveries;
    uint64_t seq, wall_ms;
    if (!take_u32(&p, &n, &deliveries) || !take_u64(&p, &n, &seq) || !take_u64(&p, &n, &wall_ms) || seq >= s->stream->next_seq)
        return false;
    sub_replay_dead(s, seq, deliveries, (int64_t)wall_ms, (const char *)p, n);
    return true;
}

static bool replay_on_sub(struct queues *q, int type, uint32_t id, const unsigned char *p, size_t n)
{
    struct sub *s = by_id(q, 'u', id);
    uint32_t zero;
    uint64_t seq;
    if (!s)
        return true; /* dropped since, or the record that made it is damaged: that was reported */
    switch (type) {
    case REC_SUB_DROP:
        stream_drop_sub(s->stream, s);
        return true;
    case REC_ACK:
    case REC_DELIVERED:
        return replay_ranges(s, type, p, n);
    case REC_DEAD:
        return replay_dead(s, p, n);
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

static bool replay_on_stream(struct queues *q, const struct store_pos *at, int type, uint32_t id, const unsigned char *body,
                             size_t n_body, const unsigned char *p, size_t n)
{
    struct stream *st = by_id(q, 's', id);
    uint32_t zero;
    uint64_t first;
    if (!st)
        return true;
    switch (type) {
    case REC_STREAM_DROP:
        queues_drop_stream(q, st);
        return true;
    case REC_PUBLISHERS:
        return publishers_replay(st, p, n);
    case REC_MESSAGES:
        return messages_replay(st, at, body, n_body);
    case REC_EPOCHS:
        return epochs_replay(st, p, n);
    case REC_GAPS:
        return gaps_replay(st, p, n);
    default:
        if (!take_u32(&p, &n, &zero) || !take_u64(&p, &n, &first) || first > st->next_seq)
            return false;
        expired_replay(st, first);
        return true;
    }
}

static bool replay_tally(const struct queues *q, uint32_t id, const unsigned char *p, size_t n)
{
    struct stream *st = by_id(q, 's', id);
    struct sub *s = st ? NULL : by_id(q, 'u', id);
    return st ? tally_replay(&st->tally, p, n) : s ? tally_replay(&s->tally, p, n) : true;
}

static void on_record(void *arg, const struct store_pos *at, int type, const unsigned char *body, size_t n_body)
{
    struct queues *q = arg;
    const unsigned char *p = body;
    size_t n = n_body;
    uint32_t id, stream;
    bool ok = take_u32(&p, &n, &id);
    if (ok && type == REC_STREAM)
        ok = replay_stream(q, body, n_body);
    else if (ok && type == REC_SUB)
        ok = take_u32(&p, &n, &stream) && (!by_id(q, 's', stream) || sub_replay_record(by_id(q, 's', stream), id, p, n));
    else if (ok && type == REC_TALLY)
        ok = replay_tally(q, id, p, n);
    else if (ok && (type == REC_STREAM_DROP || type == REC_PUBLISHERS || type == REC_MESSAGES ||
                    (type >= REC_EXPIRED && type <= REC_GAPS)))
        ok = replay_on_stream(q, at, type, id, body, n_body, p, n);
    else if (ok && type <= REC_DROP_DEAD)
        ok = replay_on_sub(q, type, id, p, n);
    if (!ok)
        log_error("store_record", NULL, NULL,
                  "a record of type %d in segment %016" PRIx64 " at %" PRIu32 " makes no sense; it is left out", type, at->segment,
                  at->offset);
}

/* Enough to make sense of all that follows without the segments before. */
static void on_segment(void *arg)
{
    struct queues *q = arg;
    size_t i = 0, k;
    AUTO_BUF struct buf b = {0};
    for (struct stream *st; (st = map_next(&q->streams, &i));) {
        b.n = 0;
        stream_record(st, &b);
        log_event(q, REC_STREAM, b.p, b.n);
        b.n = 0;
        epochs_record(st, &b);
        if (st->n_eras > 1)
            log_event(q, REC_EPOCHS, b.p, b.n);
        b.n = 0;
        gaps_record(st, &b);
        if (st->n_gaps)
            log_event(q, REC_GAPS, b.p, b.n);
        b.n = 0;
        if (publishers_record(st, &b))
            log_event(q, REC_PUBLISHERS, b.p, b.n);
        tally_append(q, &st->tally, st->id);
        k = 0;
        for (struct sub *s; (s = stream_next_sub(st, &k));) {
            b.n = 0;
            sub_record(s, &b);
            log_event(q, REC_SUB, b.p, b.n);
            tally_append(q, &s->tally, s->id);
        }
    }
}

/* An upper bound of what on_segment writes. */
static size_t segment_begins_with(void *arg)
{
    const struct queues *q = arg;
    size_t i = 0, k, j, n = 0;
    for (const struct stream *st; (st = map_next(&q->streams, &i));) {
        n += 1024 + st->n_eras * sizeof(struct era) + st->n_gaps * sizeof(struct range);
        j = 0;
        for (const struct publisher *p; (p = map_next(&st->publishers, &j));)
            n += 32 + p->n_seen * sizeof(struct range);
        k = 0;
        for (const struct sub *s; (s = stream_next_sub(st, &k));)
            n += 768 + (size_t)(s->n_again + s->n_suspect + s->n_delayed + s->n_leased) * 32 +
                 (s->n_dead - s->dead_head) * (32 + QUEUE_REASON);
    }
    return n;
}

int queues_open(int dirfd, int marks_fd, struct queues **ret, struct err *e)
{
    struct queues *q = xcalloc(1, sizeof *q);
    q->marks = marks_open(marks_fd);
    struct store_ops ops = {.on_record = on_record,
                            .on_segment = on_segment,
                            .segment_begins_with = segment_begins_with,
                            .arg = q,
                            .newest = marks_newest_segment(q->marks),
                            .is_copy = !marks_are_original(q->marks)};
    size_t i = 0, k;
    q->next_id = 1;
    q->replaying = true;
    int r = store_open(dirfd, &ops, &q->store, e);
    q->replaying = false;
    if (r < 0) {
        marks_close(q->marks);
        free(q);
        return r;
    }
    for (struct stream *st; (st = map_next(&q->streams, &i));) {
        k = 0;
        for (struct sub *s; (s = stream_next_sub(st, &k));)
            sub_recovered(s);
        st->look_at_kept = true;
        stream_trim_kept(st);
    }
    queues_recover(q);
    *ret = q;
    return 0;
}

void queues_on_death(struct queues *q, void (*fn)(struct sub *s, const struct dead_letter *d))
{
    q->on_death = fn;
}

static void queues_free(struct queues *q)
{
    size_t i = 0;
    for (struct stream *st; (st = map_next(&q->streams, &i));)
        stream_free(st);
    map_fini(&q->streams);
    map_fini(&q->by_id);
    marks_close(q->marks);
    buf_fini(&q->scratch);
    free(q);
}

void queues_close(struct queues *q)
{
    queues_commit(q, true);
    marks_sync(q->marks);
    store_close(q->store);
    queues_free(q);
}

void queues_abandon(struct queues *q)
{
    store_abandon(q->store);
    queues_free(q);
}

void queues_commit(struct queues *q, bool sync)
{
    queues_record_tallies(q);
    store_commit(q->store, sync || q->published);
    queues_mark(q);
    q->published = false;
}

void queues_push_marks(struct queues *q)
{
    marks_push(q->marks, store_newest(q->store));
}

bool queues_unsynced(const struct queues *q)
{
    return !store_is_synced(q->store);
}

bool queues_tidy(struct queues *q)
{
    uint64_t oldest;
    int64_t budget = MOVE_BYTES;
    size_t i = 0;
    if (!store_tidy(q->store, &oldest))
        return false;
    for (struct stream *st; (st = map_next(&q->streams, &i));)
        if (!stream_move(st, oldest, &budget))
            break;
    return true;
}

bool queues_full(struct queues *q)
{
    return store_is_full(q->store);
}

struct stream *queues_next(struct queues *q, size_t *i)
{
    return map_next(&q->streams, i);
}

struct stream *queues_stream(struct queues *q, const char *name)
{
    return map_get(&q->streams, name);
}

int queues_add_stream(struct queues *q, const char *name, struct stream **ret)
{
    AUTO_BUF struct buf b = {0};
    *ret = queues_stream(q, name);
    if (*ret)
        return 0;
    struct stream *st = stream_new(q, name, q->next_id);
    stream_begin_epoch(st);
    stream_record(st, &b);
    struct iovec part = {b.p, b.n};
    int r = store_append(q->store, REC_STREAM, &part, 1, true, NULL);
    if (r < 0) {
        stream_free(st);
        return r;
    }
    map_put(&q->streams, name, st);
    register_id(q, 's', st->id, st);
    stream_touch(st);
    *ret = st;
    return 0;
}

void queues_drop_stream(struct queues *q, struct stream *st)
{
    AUTO_BUF struct buf b = {0};
    stream_unmark(st);
    le_add_u32(&b, st->id);
    log_event(q, REC_STREAM_DROP, b.p, b.n);
    for (size_t i = st->head; i < st->n; i++)
        store_release(q->store, &st->extents[i].at);
    for (size_t i = 0; i < st->n_kept; i++)
        store_release(q->store, &st->kept[i].at);
    map_remove(&q->streams, st->name);
    unregister_id(q, 's', st->id);
    stream_free(st);
}

int stream_add_sub(struct stream *st, const char *name, struct sub **ret)
{
    struct stream_figures f;
    AUTO_BUF struct buf b = {0};
    *ret = stream_sub(st, name);
    if (*ret)
        return 0;
    stream_figures(st, &f);
    struct sub *s = sub_new(st, name, st->q->next_id, f.first_seq);
    sub_record(s, &b);
    struct iovec part = {b.p, b.n};
    int r = store_append(st->q->store, REC_SUB, &part, 1, true, NULL);
    if (r < 0) {
        sub_free(s);
        return r;
    }
    st->subs = xrealloc(st->subs, (st->n_subs + 1) * sizeof(struct sub *));
    st->subs[st->n_subs++] = s;
    sub_touch(s);
    *ret = s;
    return 0;
}
