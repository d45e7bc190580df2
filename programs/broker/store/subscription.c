/* A subscription: its life, its figures, and how it is written down. */
#include "parts.h"

#include "base/mem.h"

#include <string.h>

struct sub *sub_new(struct stream *st, const char *name, uint32_t id, uint64_t floor)
{
    struct sub *s = xcalloc(1, sizeof *s);
    *s = (struct sub){
        .stream = st, .name = xstrdup(name), .id = id, .floor = floor, .cursor = floor, .lease_ms = 30000, .max_deliveries = 5};
    register_id(st->all, 'u', id, s);
    return s;
}

void sub_free(struct sub *s)
{
    unregister_id(s->stream->all, 'u', s->id);
    sub_free_slots(s);
    for (size_t i = s->dead_head; i < s->n_dead; i++)
        free(s->dead[i].reason);
    for (size_t i = 0; i < s->cap_consumers; i++)
        free(s->consumers[i]);
    free(s->timed);
    free(s->dead);
    free(s->consumers);
    free(s->name);
    free(s);
}

const char *sub_name(const struct sub *s)
{
    return s->name;
}

struct stream *sub_stream(const struct sub *s)
{
    return s->stream;
}

uint64_t sub_floor(const struct sub *s)
{
    return s->floor;
}

void sub_configure(struct sub *s, int64_t lease_ms, int max_deliveries)
{
    s->lease_ms = lease_ms;
    s->max_deliveries = max_deliveries;
}

void sub_set_tag(struct sub *s, void *tag)
{
    s->tag = tag;
}

void *sub_tag(const struct sub *s)
{
    return s->tag;
}

void sub_figures(const struct sub *s, struct sub_figures *ret)
{
    *ret = (struct sub_figures){
        .ready = s->stream->next_seq - s->cursor - stream_n_missing(s->stream, s->cursor, s->stream->next_seq) + s->n_again +
                 s->n_suspect,
        .leased = s->n_leased,
        .delayed = s->n_delayed,
        .dead = s->n_dead - s->dead_head,
        .oldest_wall_ms = s->floor < s->stream->next_seq ? stream_wall_ms(s->stream, s->floor) : 0,
        .acked = s->tally.v[TALLY_MESSAGES],
        .redelivered = s->redelivered,
        .lost = s->lost,
        .expired = s->expired,
        .rejected = s->rejected,
        .n_consumers = s->n_consumers,
    };
}

bool sub_has_suspects(const struct sub *s)
{
    return s->n_suspect;
}

void sub_finish(struct sub *s)
{
    uint64_t before = s->floor;
    sub_advance_floor(s);
    if (s->floor > before) /* below the floor only kept extents hold messages: a replayed one may be done now */
        s->stream->look_at_kept |=
            s->stream->n_kept && before < s->stream->kept[s->stream->n_kept - 1].first + s->stream->kept[s->stream->n_kept - 1].n;
    if (s->floor > before)
        stream_trim(s->stream);
}

/* ---- how long messages took ---- */

/* Buckets: one for each ms below 16, then four to each doubling. */
static unsigned time_bucket(int64_t ms)
{
    uint64_t v = ms < 0 ? 0 : (uint64_t)ms;
    if (v < 16)
        return (unsigned)v;
    unsigned log = 63 - (unsigned)__builtin_clzll(v), i = log * 4 + (unsigned)(v >> (log - 2) & 3);
    return i < N_TIMES ? i : N_TIMES - 1;
}

static int64_t bucket_end(unsigned i)
{
    return i < 16 ? (int64_t)i : (int64_t)(5 + i % 4) << (i / 4 - 2);
}

const int32_t sub_lasted_ms[SUB_LASTED] = {1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10000, 60000};

const struct sub_lasted *sub_lasted(const struct sub *s)
{
    return &s->lasted;
}

void sub_add_time(struct sub *s, int64_t ms)
{
    unsigned i = 0;
    while (i < SUB_LASTED && ms > sub_lasted_ms[i])
        i++;
    s->lasted.n[i]++;
    s->lasted.sum_ms += ms > 0 ? ms : 0;
    s->times[time_bucket(ms)]++;
    s->times_sum_ms += ms;
    if (ms > s->times_max_ms)
        s->times_max_ms = ms;
}

void sub_take_times(struct sub *s, struct sub_times *ret)
{
    uint64_t n = 0, below = 0;
    unsigned i = 0;
    for (unsigned k = 0; k < N_TIMES; k++)
        n += s->times[k];
    for (; i < N_TIMES && (below += s->times[i]) * 100 < n * 99; i++) {
    }
    *ret = (struct sub_times){n, n ? (double)s->times_sum_ms / (double)n : 0, 0, s->times_max_ms};
    if (n)
        ret->p99_ms = bucket_end(i) < s->times_max_ms ? bucket_end(i) : s->times_max_ms;
    memset(s->times, 0, sizeof s->times);
    s->times_sum_ms = s->times_max_ms = 0;
}

/* ---- the log ---- */

void sub_record(const struct sub *s, struct buf *out)
{
    AUTO_BUF struct buf done = {0}, counts = {0};
    uint64_t from = 0;
    for (uint64_t seq = s->floor; seq <= s->cursor; seq++) {
        const struct slot *t = seq < s->cursor ? sub_slot_of(s, seq) : NULL;
        bool is_done = seq < s->cursor && (!t || t->state == SLOT_DONE || t->state == SLOT_DEAD);
        if (is_done && !from)
            from = seq;
        if (!is_done && from) {
            le_add_u64(&done, from);
            le_add_u64(&done, seq - 1);
            from = 0;
        }
        if (t && !is_done && t->deliveries) {
            le_add_u64(&counts, seq);
            le_add_u64(&counts, t->deliveries);
        }
    }
    le_add_u32(out, s->id);
    le_add_u32(out, s->stream->id);
    le_add_u64(out, s->floor);
    le_add_u64(out, s->cursor);
    le_add_u32(out, (uint32_t)strlen(s->name));
    le_add_u32(out, (uint32_t)(done.n / 16));
    le_add_u32(out, (uint32_t)(counts.n / 16));
    le_add_u32(out, (uint32_t)(s->n_dead - s->dead_head));
    buf_adds(out, s->name);
    buf_add(out, done.p, done.n);
    buf_add(out, counts.p, counts.n);
    for (size_t i = s->dead_head; i < s->n_dead; i++) {
        const struct dead *d = &s->dead[i];
        le_add_u64(out, d->seq);
        le_add_u64(out, (uint64_t)d->wall_ms);
        le_add_u32(out, d->deliveries);
        le_add_u32(out, (uint32_t)strlen(d->reason));
        buf_adds(out, d->reason);
    }
    if (s->shared_below != SHARED_NOT_SET)
        le_add_u64(out, s->shared_below);
}

/* A new subscription in place of one of this name, which may be there from an earlier segment's record. */
static struct sub *anew(struct stream *st, const char *name, uint32_t id, uint64_t floor)
{
    for (size_t i = 0; i < st->n_subs; i++)
        if (!strcmp(st->subs[i]->name, name)) {
            sub_free(st->subs[i]);
            return st->subs[i] = sub_new(st, name, id, floor);
        }
    st->subs = xrealloc(st->subs, (st->n_subs + 1) * sizeof(struct sub *));
    return st->subs[st->n_subs++] = sub_new(st, name, id, floor);
}

static bool load_done(struct sub *s, uint32_t n_ranges, const unsigned char **p, size_t *n)
{
    for (struct range r; n_ranges--;) {
        if (!take_u64(p, n, &r.first) || !take_u64(p, n, &r.last) || r.first < s->floor || r.last >= s->cursor)
            return false;
        uint64_t seq = r.first;
        for (struct slot *t; (t = sub_next_slot(s, &seq, r.last)); seq++)
            if (t->state != SLOT_DONE)
                sub_set_state(s, seq, t, SLOT_DONE);
    }
    return true;
}

static bool load_counts(struct sub *s, uint32_t n_counts, const unsigned char **p, size_t *n)
{
    for (uint64_t seq, deliveries; n_counts--;) {
        if (!take_u64(p, n, &seq) || !take_u64(p, n, &deliveries))
            return false;
        struct slot *t = seq >= s->floor && seq < s->cursor ? sub_slot_of(s, seq) : NULL;
        if (t)
            t->deliveries = (uint8_t)deliveries;
    }
    return true;
}

static bool load_dead(struct sub *s, uint32_t n_dead, const unsigned char **p, size_t *n)
{
    for (uint64_t seq, wall_ms; n_dead--;) {
        uint32_t deliveries, len;
        if (!take_u64(p, n, &seq) || !take_u64(p, n, &wall_ms) || !take_u32(p, n, &deliveries) || !take_u32(p, n, &len) ||
            len > *n || seq >= s->cursor)
            return false;
        sub_add_dead(s, seq, (uint8_t)deliveries, (int64_t)wall_ms, (const char *)*p, len);
        *p += len;
        *n -= len;
    }
    return true;
}

bool sub_load_record(struct stream *st, uint32_t id, const unsigned char *p, size_t n)
{
    uint64_t floor, cursor;
    uint32_t n_name, n_done, n_counts, n_dead;
    if (!take_u64(&p, &n, &floor) || !take_u64(&p, &n, &cursor) || !take_u32(&p, &n, &n_name) || !take_u32(&p, &n, &n_done) ||
        !take_u32(&p, &n, &n_counts) || !take_u32(&p, &n, &n_dead) || n_name > n || n_name > 200 || !floor || cursor < floor)
        return false;
    AUTO_FREE char *name = xstrndup((const char *)p, n_name);
    p += n_name;
    n -= n_name;
    struct sub *s = anew(st, name, id, floor);
    sub_advance(s, cursor);
    if (!load_done(s, n_done, &p, &n) || !load_counts(s, n_counts, &p, &n) || !load_dead(s, n_dead, &p, &n))
        return false;
    if (!take_u64(&p, &n, &s->shared_below))
        s->shared_below = SHARED_NOT_SET;
    return true;
}

void sub_load_ranges(struct sub *s, int type, const struct range *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (v[i].first > v[i].last || v[i].last >= s->stream->next_seq + (1ULL << 32))
            continue;
        sub_advance(s, v[i].last + 1);
        uint64_t seq = v[i].first;
        for (struct slot *t; (t = sub_next_slot(s, &seq, v[i].last)); seq++) {
            if (t->state == SLOT_DONE || t->state == SLOT_DEAD)
                continue;
            if (type == REC_ACK)
                sub_set_state(s, seq, t, SLOT_DONE);
            else if (t->deliveries < MAX_DELIVERIES_COUNTED)
                t->deliveries++;
        }
    }
    sub_finish(s);
}

/* All that has a slot and is not done waits to be handed out, in order. */
void sub_recovered(struct sub *s)
{
    s->again.n = 0;
    uint64_t seq = s->floor;
    for (const struct slot *t; (t = sub_next_slot(s, &seq, UINT64_MAX)); seq++)
        if (t->state == SLOT_AGAIN)
            ring_push(&s->again, seq);
    sub_finish(s);
}
