#include "queue_parts.h"

#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_DELIVERIES_COUNTED = 255, TIMED_KEPT = 4096 };

static struct chunk all_done = {.n_done = CHUNK};

struct sub *sub_new(struct stream *st, const char *name, uint32_t id, uint64_t floor)
{
    struct sub *s = xcalloc(1, sizeof *s);
    *s = (struct sub){
        .stream = st, .name = xstrdup(name), .id = id, .floor = floor, .cursor = floor, .lease_ms = 30000, .max_deliveries = 5};
    register_id(st->q, 'u', id, s);
    return s;
}

void sub_free(struct sub *s)
{
    unregister_id(s->stream->q, 'u', s->id);
    for (size_t i = 0; i < s->n_chunks; i++)
        if (s->chunks[i] != &all_done)
            free(s->chunks[i]);
    for (size_t i = s->dead_head; i < s->n_dead; i++)
        free(s->dead[i].reason);
    for (size_t i = 0; i < s->cap_consumers; i++)
        free(s->consumers[i]);
    free(s->chunks);
    free(s->again.v);
    free(s->suspects.v);
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

/* Up to 16 ms one each, then four to a doubling. */
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

void sub_figures(const struct sub *s, struct sub_figures *ret)
{
    *ret = (struct sub_figures){
        .ready = s->stream->next_seq - s->cursor + s->n_again + s->n_suspect,
        .leased = s->n_leased,
        .delayed = s->n_delayed,
        .dead = s->n_dead - s->dead_head,
        .oldest_wall_ms = s->floor < s->stream->next_seq ? stream_wall_ms(s->stream, s->floor) : 0,
        .acked = s->acked,
        .acked_bytes = s->acked_bytes,
        .failed = s->failed,
        .redelivered = s->redelivered,
        .died = s->died,
        .lost = s->lost,
        .expired = s->expired,
        .n_consumers = s->n_consumers,
    };
}

/* ---- rings ---- */

static void push(struct ring *r, uint64_t seq)
{
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 64;
        uint64_t *v = xmalloc(cap * sizeof *v);
        for (size_t i = 0; i < r->n; i++)
            v[i] = r->v[(r->head + i) & (r->cap - 1)];
        free(r->v);
        *r = (struct ring){v, 0, r->n, cap};
    }
    r->v[(r->head + r->n++) & (r->cap - 1)] = seq;
}

static uint64_t pop(struct ring *r)
{
    uint64_t seq = r->v[r->head];
    r->head = (r->head + 1) & (r->cap - 1);
    r->n--;
    return seq;
}

/* ---- slots ---- */

static struct chunk **chunk_of(const struct sub *s, uint64_t seq)
{
    return &s->chunks[seq / CHUNK - s->floor / CHUNK];
}

/* NULL: done. For seq from floor to below cursor. */
static struct slot *slot_of(const struct sub *s, uint64_t seq)
{
    struct chunk *c = *chunk_of(s, seq);
    return c == &all_done ? NULL : &c->v[seq % CHUNK];
}

/* The first from *seq to `last` (both ends included) that has a slot, and its place; NULL: none. What is passed over is done. To be
 * walked with `seq++`; the caller may set states, but not move the floor. */
static struct slot *next_slot(const struct sub *s, uint64_t *seq, uint64_t last)
{
    uint64_t end = last < s->cursor ? last + 1 : s->cursor;
    if (*seq < s->floor)
        *seq = s->floor;
    while (*seq < end) {
        struct slot *t = slot_of(s, *seq);
        if (t)
            return t;
        *seq = (*seq | (CHUNK - 1)) + 1;
    }
    return NULL;
}

static void insert_chunks(struct sub *s, size_t at, size_t n)
{
    if (s->n_chunks + n > s->cap_chunks) {
        s->cap_chunks = (s->n_chunks + n) * 2;
        s->chunks = xrealloc(s->chunks, s->cap_chunks * sizeof(struct chunk *));
    }
    memmove(s->chunks + at + n, s->chunks + at, (s->n_chunks - at) * sizeof(struct chunk *));
    s->n_chunks += n;
}

/* A chunk of which the messages below `floor` are done. */
static struct chunk *chunk_new(uint64_t index, uint64_t floor)
{
    struct chunk *c = xcalloc(1, sizeof *c);
    for (uint64_t seq = index * CHUNK; seq < (index + 1) * CHUNK && seq < floor; seq++) {
        c->v[seq % CHUNK].state = SLOT_DONE;
        c->n_done++;
    }
    return c;
}

static void drop_front(struct sub *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s->chunks[i] != &all_done)
            free(s->chunks[i]);
    s->n_chunks -= n;
    if (n)
        memmove(s->chunks, s->chunks + n, s->n_chunks * sizeof(struct chunk *));
}

/* The messages up to `seq` have slots: they count as to be handed out again, until their state is set. */
static void advance(struct sub *s, uint64_t next)
{
    for (; s->cursor < next; s->cursor++) {
        if (s->cursor / CHUNK - s->floor / CHUNK >= s->n_chunks) {
            insert_chunks(s, s->n_chunks, 1);
            s->chunks[s->n_chunks - 1] = chunk_new(s->cursor / CHUNK, s->floor);
        }
        s->n_again++; /* not pushed: the caller says what it is */
    }
}

static void advance_floor(struct sub *s)
{
    uint64_t floor = s->floor;
    while (floor < s->cursor) {
        struct chunk *c = s->chunks[floor / CHUNK - s->floor / CHUNK];
        if (c == &all_done) {
            floor = (floor / CHUNK + 1) * CHUNK;
            continue;
        }
        uint8_t state = c->v[floor % CHUNK].state;
        if (state != SLOT_DONE && state != SLOT_DEAD)
            break;
        floor++;
    }
    if (floor > s->cursor)
        floor = s->cursor;
    size_t gone = (size_t)(floor / CHUNK - s->floor / CHUNK);
    drop_front(s, gone < s->n_chunks ? gone : s->n_chunks);
    s->floor = floor;
}

static uint64_t *count_of(struct sub *s, uint8_t state)
{
    switch (state) {
    case SLOT_AGAIN:
        return &s->n_again;
    case SLOT_SUSPECT:
        return &s->n_suspect;
    case SLOT_DELAYED:
        return &s->n_delayed;
    case SLOT_LEASED:
        return &s->n_leased;
    default:
        return NULL;
    }
}

static void set_state(struct sub *s, uint64_t seq, struct slot *t, uint8_t state)
{
    uint64_t *n = count_of(s, t->state);
    if (n)
        --*n;
    if (t->state == SLOT_LEASED) {
        struct consumer *c = s->consumers[t->consumer - 1];
        c->n_leased--;
        c->leased_bytes -= t->bytes;
    }
    t->state = state;
    n = count_of(s, state);
    if (n)
        ++*n;
    if (state == SLOT_AGAIN)
        push(&s->again, seq);
    if (state == SLOT_SUSPECT)
        push(&s->suspects, seq);
    if (state != SLOT_DONE && state != SLOT_DEAD)
        return;
    struct chunk **c = chunk_of(s, seq);
    if (++(*c)->n_done == CHUNK) {
        free(*c);
        *c = &all_done;
    }
}

static void finish(struct sub *s)
{
    uint64_t before = s->floor;
    advance_floor(s);
    if (s->floor > before) /* a replayed one may be done, which only kept messages can be */
        s->stream->look_at_kept |=
            s->stream->n_kept && before < s->stream->kept[s->stream->n_kept - 1].first + s->stream->kept[s->stream->n_kept - 1].n;
    if (s->floor > before)
        stream_trim(s->stream);
}

/* ---- timed runs ---- */

static bool is_held(const struct slot *t, uint32_t consumer)
{
    return t->state == SLOT_LEASED && t->consumer == consumer;
}

static bool is_over(const struct sub *s, const struct timed *run)
{
    uint64_t seq = run->first;
    for (const struct slot *t; (t = next_slot(s, &seq, run->last)); seq++)
        if (run->consumer ? is_held(t, run->consumer) : t->state == SLOT_DELAYED)
            return false;
    return true;
}

static void sift_up(struct sub *s, struct timed t, size_t i)
{
    for (; i > 0 && s->timed[(i - 1) / 2].due_ms > t.due_ms; i = (i - 1) / 2)
        s->timed[i] = s->timed[(i - 1) / 2];
    s->timed[i] = t;
}

/* Runs whose messages are long done would wait for their time all the same, behind one that is held. */
static void forget_over(struct sub *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_timed; i++)
        if (!is_over(s, &s->timed[i]))
            sift_up(s, s->timed[i], n++); /* n is at most i */
    s->n_timed = n;
    s->forget_timed_at = n * 2 > TIMED_KEPT ? n * 2 : TIMED_KEPT;
}

static void add_timed(struct sub *s, struct timed t)
{
    if (s->n_timed >= s->forget_timed_at)
        forget_over(s);
    if (s->n_timed == s->cap_timed) {
        s->cap_timed = s->cap_timed ? s->cap_timed * 2 : 64;
        s->timed = xrealloc(s->timed, s->cap_timed * sizeof *s->timed);
    }
    sift_up(s, t, s->n_timed++);
}

static struct timed take_timed(struct sub *s)
{
    struct timed first = s->timed[0], t = s->timed[--s->n_timed];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < s->n_timed; i = k) {
        if (k + 1 < s->n_timed && s->timed[k + 1].due_ms < s->timed[k].due_ms)
            k++;
        if (t.due_ms <= s->timed[k].due_ms)
            break;
        s->timed[i] = s->timed[k];
    }
    s->timed[i] = t;
    return first;
}

/* ---- dead letters ---- */

static size_t dead_at(const struct sub *s, uint64_t seq)
{
    size_t lo = s->dead_head, hi = s->n_dead;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (s->dead[mid].seq < seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void add_dead(struct sub *s, uint64_t seq, uint8_t deliveries, int64_t wall_ms, const char *reason, size_t n)
{
    size_t i = dead_at(s, seq);
    if (i < s->n_dead && s->dead[i].seq == seq)
        return;
    s->dead = xrealloc(s->dead, (s->n_dead + 1) * sizeof *s->dead);
    memmove(s->dead + i + 1, s->dead + i, (s->n_dead++ - i) * sizeof *s->dead);
    s->dead[i] = (struct dead){seq, wall_ms, xstrndup(reason, n), deliveries};
}

static bool remove_dead(struct sub *s, uint64_t seq)
{
    size_t i = dead_at(s, seq);
    if (i == s->n_dead || s->dead[i].seq != seq)
        return false;
    free(s->dead[i].reason);
    if (i == s->dead_head)
        s->dead_head++; /* all of them go from there mostly */
    else
        memmove(s->dead + i, s->dead + i + 1, (--s->n_dead - i) * sizeof *s->dead);
    if (s->dead_head == s->n_dead)
        s->dead_head = s->n_dead = 0;
    s->stream->look_at_kept = true;
    return true;
}

static void die(struct sub *s, uint64_t seq, struct slot *t, const char *reason, int64_t wall_ms)
{
    AUTO_BUF struct buf b = {0};
    size_t n = strnlen(reason, QUEUE_REASON);
    uint8_t deliveries = t->deliveries;
    le_add_u32(&b, s->id);
    le_add_u32(&b, deliveries);
    le_add_u64(&b, seq);
    le_add_u64(&b, (uint64_t)wall_ms);
    buf_add(&b, reason, n);
    log_event(s->stream->q, REC_DEAD, b.p, b.n);
    add_dead(s, seq, deliveries, wall_ms, reason, n);
    set_state(s, seq, t, SLOT_DEAD);
    s->died++;
    if (s->stream->q->on_death)
        s->stream->q->on_death(s, &(struct dead_letter){seq, deliveries, wall_ms, reason});
}

void sub_replay_dead(struct sub *s, uint64_t seq, uint32_t deliveries, int64_t wall_ms, const char *reason, size_t n)
{
    advance(s, seq + 1);
    struct slot *t = seq >= s->floor ? slot_of(s, seq) : NULL;
    if (!t || t->state == SLOT_DONE || t->state == SLOT_DEAD)
        return;
    add_dead(s, seq, (uint8_t)deliveries, wall_ms, reason, n < QUEUE_REASON ? n : QUEUE_REASON);
    set_state(s, seq, t, SLOT_DEAD);
    finish(s);
}

bool sub_next_dead(const struct sub *s, uint64_t seq, struct dead_letter *ret)
{
    size_t i = dead_at(s, seq);
    if (i == s->n_dead)
        return false;
    *ret = (struct dead_letter){s->dead[i].seq, s->dead[i].deliveries, s->dead[i].wall_ms, s->dead[i].reason};
    return true;
}

static void log_dead_event(struct sub *s, int type, uint64_t seq)
{
    AUTO_BUF struct buf b = {0};
    le_add_u32(&b, s->id);
    le_add_u32(&b, 0);
    le_add_u64(&b, seq);
    log_event(s->stream->q, type, b.p, b.n);
}

int sub_replay(struct sub *s, uint64_t seq)
{
    if (!remove_dead(s, seq))
        return -ENOENT;
    log_dead_event(s, REC_REPLAY, seq);
    if (seq < s->floor) { /* the window is opened again down to it; all between is done */
        size_t more = (size_t)(s->floor / CHUNK - seq / CHUNK);
        if (!s->n_chunks) {
            insert_chunks(s, 0, 1);
            s->chunks[0] = chunk_new(s->floor / CHUNK, s->floor);
        }
        if (more) {
            insert_chunks(s, 0, more);
            for (size_t i = 0; i < more; i++)
                s->chunks[i] = &all_done;
        }
        s->floor = seq;
    }
    struct chunk **c = chunk_of(s, seq);
    if (*c == &all_done)
        *c = chunk_new(seq / CHUNK, (seq / CHUNK + 1) * CHUNK);
    struct slot *t = &(*c)->v[seq % CHUNK];
    (*c)->n_done--;
    *t = (struct slot){.state = SLOT_DONE};
    set_state(s, seq, t, SLOT_AGAIN);
    return 0;
}

int sub_drop_dead(struct sub *s, uint64_t seq)
{
    if (!remove_dead(s, seq))
        return -ENOENT;
    log_dead_event(s, REC_DROP_DEAD, seq);
    struct slot *t = seq >= s->floor ? slot_of(s, seq) : NULL;
    if (t)
        t->state = SLOT_DONE; /* was dead, which counts the same */
    return 0;
}

void sub_expire_dead(struct sub *s, int64_t wall_ms)
{
    struct dead_letter d;
    for (uint64_t seq = 1; sub_next_dead(s, seq, &d); seq = d.seq + 1)
        if (d.wall_ms < wall_ms)
            sub_drop_dead(s, d.seq);
}

/* ---- consumers ---- */

struct consumer *sub_attach(struct sub *s, void *tag)
{
    size_t i = 0;
    while (i < s->cap_consumers && s->consumers[i])
        i++;
    if (i == s->cap_consumers) {
        s->cap_consumers = i ? i * 2 : 4;
        s->consumers = xrealloc(s->consumers, s->cap_consumers * sizeof *s->consumers);
        memset(s->consumers + i, 0, (s->cap_consumers - i) * sizeof *s->consumers);
    }
    struct consumer *c = xcalloc(1, sizeof *c);
    *c = (struct consumer){.sub = s, .tag = tag, .id = (uint32_t)i + 1};
    s->consumers[i] = c;
    s->n_consumers++;
    return c;
}

void consumer_set_window(struct consumer *c, uint64_t max_n, uint64_t max_bytes)
{
    c->max_n = max_n;
    c->max_bytes = max_bytes;
}

uint64_t consumer_n_leased(const struct consumer *c)
{
    return c->n_leased;
}

uint64_t consumer_n_ran_out(const struct consumer *c)
{
    return c->n_ran_out;
}

void consumer_heard(struct consumer *c)
{
    c->n_ran_out = 0;
}

void *consumer_tag(const struct consumer *c)
{
    return c->tag;
}

struct sub *consumer_sub(const struct consumer *c)
{
    return c->sub;
}

struct consumer *sub_next_consumer(const struct sub *s, size_t *i)
{
    while (*i < s->cap_consumers)
        if (s->consumers[(*i)++])
            return s->consumers[*i - 1];
    return NULL;
}

/* The lease of seq ended without an ack. own: for a reason of its own. */
static void fail(struct sub *s, uint64_t seq, struct slot *t, bool own, const char *reason, int64_t wall_ms)
{
    s->failed++;
    if (own && t->deliveries >= s->max_deliveries)
        die(s, seq, t, reason, wall_ms);
    else
        set_state(s, seq, t, own ? SLOT_AGAIN : SLOT_SUSPECT);
}

void consumer_detach(struct consumer *c, bool lost, int64_t wall_ms)
{
    struct sub *s = c->sub;
    bool alone = c->n_leased == 1;
    uint64_t seq = s->floor;
    for (struct slot *t; c->n_leased && (t = next_slot(s, &seq, UINT64_MAX)); seq++)
        if (is_held(t, c->id) && lost)
            fail(s, seq, t, alone, "its consumer went away", wall_ms);
        else if (is_held(t, c->id))
            set_state(s, seq, t, SLOT_AGAIN);
    s->consumers[c->id - 1] = NULL;
    s->n_consumers--;
    free(c);
    finish(s);
}

/* What is in front of a ring and still is what it was put there for; 0: nothing. */
static uint64_t front(struct sub *s, struct ring *r, uint8_t state)
{
    while (r->n) {
        uint64_t seq = r->v[r->head];
        const struct slot *t = seq >= s->floor && seq < s->cursor ? slot_of(s, seq) : NULL;
        if (t && t->state == state)
            return seq;
        pop(r);
    }
    return 0;
}

bool consumer_may_lease(const struct consumer *c)
{
    const struct sub *s = c->sub;
    if (c->n_leased >= c->max_n || (c->n_leased && (c->alone || c->leased_bytes >= c->max_bytes)))
        return false;
    if (s->n_suspect)
        return !c->n_leased;
    return s->n_again || s->cursor < s->stream->next_seq;
}

struct leasing {
    struct consumer *c;
    size_t n, max_n, bytes, max_bytes;
    int64_t now_ms;
    void (*fn)(void *arg, uint64_t seq, int deliveries, int64_t wall_ms, const void *p, size_t n);
    void *arg;
    struct buf ranges; /* of struct range */
};

static bool fits(const struct leasing *l, size_t n)
{
    return !l->c->n_leased || ((!l->n || l->bytes + n <= l->max_bytes) && l->c->leased_bytes + n <= l->c->max_bytes);
}

static void lease(struct leasing *l, uint64_t seq, const void *p, size_t n, int64_t wall_ms)
{
    struct consumer *c = l->c;
    struct sub *s = c->sub;
    struct slot *t = slot_of(s, seq);
    struct range *last = l->ranges.n ? (struct range *)(l->ranges.p + l->ranges.n) - 1 : NULL;
    set_state(s, seq, t, SLOT_LEASED);
    if (t->deliveries < MAX_DELIVERIES_COUNTED)
        t->deliveries++;
    s->redelivered += t->deliveries > 1;
    t->consumer = c->id;
    t->bytes = (uint32_t)n;
    t->since_ms = l->now_ms;
    t->until_ms = l->now_ms + s->lease_ms;
    c->n_leased++;
    c->leased_bytes += n;
    l->n++;
    l->bytes += n;
    if (last && last->last + 1 == seq)
        last->last = seq;
    else
        buf_add(&l->ranges, &(struct range){seq, seq}, sizeof(struct range));
    l->fn(l->arg, seq, t->deliveries, wall_ms, p, n);
}

/* A message that is not to be had any more ends for this subscription. */
static void lose(struct sub *s, uint64_t first, uint64_t next)
{
    advance(s, next);
    uint64_t seq = first;
    for (struct slot *t; (t = next_slot(s, &seq, next - 1)); seq++)
        if (t->state != SLOT_DONE && t->state != SLOT_DEAD) {
            set_state(s, seq, t, SLOT_DONE);
            s->lost++;
        }
}

/* From a ring, while what is in front passes. */
static void lease_again(struct leasing *l, struct ring *r, uint8_t state, size_t max, uint8_t max_before)
{
    struct sub *s = l->c->sub;
    uint64_t seq, next;
    size_t n, taken = 0;
    int64_t wall_ms;
    while (taken < max && l->n < l->max_n && l->c->n_leased < l->c->max_n && (seq = front(s, r, state))) {
        const void *p = stream_find(s->stream, seq, &n, &wall_ms, &next);
        if (!p) {
            lose(s, seq, seq + 1);
            continue;
        }
        if (!fits(l, n) || slot_of(s, seq)->deliveries > max_before)
            return;
        pop(r);
        lease(l, seq, p, n, wall_ms);
        taken++;
    }
}

static void lease_fresh(struct leasing *l)
{
    struct sub *s = l->c->sub;
    size_t n;
    int64_t wall_ms;
    while (l->n < l->max_n && l->c->n_leased < l->c->max_n && s->cursor < s->stream->next_seq) {
        uint64_t seq = s->cursor, next;
        const void *p = stream_find(s->stream, seq, &n, &wall_ms, &next);
        if (!p) {
            lose(s, seq, next);
            continue;
        }
        if (!fits(l, n))
            return;
        advance(s, seq + 1);
        lease(l, seq, p, n, wall_ms);
    }
}

size_t consumer_lease(struct consumer *c, size_t max_n, size_t max_bytes, int64_t now_ms,
                      void (*fn)(void *arg, uint64_t seq, int deliveries, int64_t wall_ms, const void *p, size_t n), void *arg)
{
    struct sub *s = c->sub;
    struct leasing l = {.c = c, .max_n = max_n, .max_bytes = max_bytes, .now_ms = now_ms, .fn = fn, .arg = arg};
    if (!consumer_may_lease(c))
        return 0;
    uint64_t suspect = front(s, &s->suspects, SLOT_SUSPECT);
    c->alone = suspect != 0;
    if (suspect) {
        bool first_time = slot_of(s, suspect)->deliveries == 1 && s->max_deliveries > 2;
        lease_again(&l, &s->suspects, SLOT_SUSPECT, first_time ? SUSPECT_GROUP : 1, first_time ? 1 : UINT8_MAX);
    } else {
        lease_again(&l, &s->again, SLOT_AGAIN, SIZE_MAX, UINT8_MAX);
        if (!front(s, &s->again, SLOT_AGAIN))
            lease_fresh(&l);
    }
    const struct range *v = (const struct range *)l.ranges.p;
    size_t n = l.ranges.n / sizeof *v;
    for (size_t i = 0; i < n; i++)
        add_timed(s, (struct timed){now_ms + s->lease_ms, v[i].first, v[i].last, c->id});
    if (n) {
        AUTO_BUF struct buf b = {0};
        le_add_u32(&b, s->id);
        le_add_u32(&b, (uint32_t)n);
        for (size_t i = 0; i < n; i++) {
            le_add_u64(&b, v[i].first);
            le_add_u64(&b, v[i].last);
        }
        log_event(s->stream->q, REC_DELIVERED, b.p, b.n);
    }
    buf_fini(&l.ranges);
    finish(s); /* some may have been lost */
    return l.n;
}

static uint64_t ack_one(struct sub *s, uint64_t seq, struct slot *t, int64_t now_ms)
{
    if (t->state == SLOT_DONE || t->state == SLOT_DEAD || !t->deliveries)
        return 0;
    if (t->state == SLOT_LEASED) {
        int64_t ms = now_ms - t->since_ms;
        s->times[time_bucket(ms)]++;
        s->times_sum_ms += ms;
        if (ms > s->times_max_ms)
            s->times_max_ms = ms;
    }
    s->acked_bytes += t->bytes;
    set_state(s, seq, t, SLOT_DONE);
    return 1;
}

static struct range clamp(const struct sub *s, struct range r)
{
    return (struct range){r.first < s->floor ? s->floor : r.first, r.last >= s->cursor ? s->cursor - 1 : r.last};
}

uint64_t sub_ack(struct sub *s, const struct range *v, size_t n, int64_t now_ms)
{
    uint64_t acked = 0;
    AUTO_BUF struct buf b = {0};
    le_add_u32(&b, s->id);
    le_add_u32(&b, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        struct range r = clamp(s, v[i]);
        le_add_u64(&b, r.first);
        le_add_u64(&b, r.last);
        uint64_t seq = r.first;
        for (struct slot *t; (t = next_slot(s, &seq, r.last)); seq++)
            acked += ack_one(s, seq, t, now_ms);
    }
    s->acked += acked;
    if (acked)
        log_event(s->stream->q, REC_ACK, b.p, b.n);
    finish(s);
    return acked;
}

static uint64_t each_held(struct consumer *c, const struct range *v, size_t n,
                          void (*fn)(struct consumer *c, uint64_t seq, struct slot *t, void *arg), void *arg)
{
    struct sub *s = c->sub;
    uint64_t found = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t seq = v[i].first;
        for (struct slot *t; (t = next_slot(s, &seq, v[i].last)); seq++)
            if (is_held(t, c->id)) {
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
        s->failed++;
        die(s, seq, t, k->reason, k->wall_ms);
        return;
    }
    if (t->deliveries >= s->max_deliveries || !k->until_ms) {
        fail(s, seq, t, true, k->reason, k->wall_ms);
        return;
    }
    s->failed++;
    set_state(s, seq, t, SLOT_DELAYED);
    t->until_ms = k->until_ms;
    add_timed(s, (struct timed){k->until_ms, seq, seq, 0});
}

uint64_t consumer_nack(struct consumer *c, const struct range *v, size_t n, int64_t delay_ms, const char *reason, int64_t now_ms,
                       int64_t wall_ms)
{
    struct nacking k = {delay_ms > 0 ? now_ms + delay_ms : delay_ms, wall_ms, *reason ? reason : "refused by its consumer"};
    uint64_t found = each_held(c, v, n, nack_one, &k);
    finish(c->sub);
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

/* Ends what is over of a timed run; puts back what was extended. */
static void end_timed(struct sub *s, struct timed run, int64_t now_ms, int64_t wall_ms)
{
    int64_t later = -1;
    uint64_t seq = run.first;
    struct consumer *c = run.consumer ? s->consumers[run.consumer - 1] : NULL;
    bool alone = c && c->n_leased == 1;
    for (struct slot *t; (t = next_slot(s, &seq, run.last)); seq++) {
        if (!run.consumer && t->state == SLOT_DELAYED && t->until_ms <= now_ms) {
            set_state(s, seq, t, SLOT_AGAIN);
        } else if (run.consumer && is_held(t, run.consumer)) {
            if (t->until_ms <= now_ms) {
                c->n_ran_out++;
                fail(s, seq, t, alone, "its lease ran out", wall_ms);
            } else if (later < 0 || t->until_ms < later)
                later = t->until_ms;
        }
    }
    if (later >= 0)
        add_timed(s, (struct timed){later, run.first, run.last, run.consumer});
}

int64_t sub_tick(struct sub *s, int64_t now_ms, int64_t wall_ms)
{
    while (s->n_timed && s->timed[0].due_ms <= now_ms)
        end_timed(s, take_timed(s), now_ms, wall_ms);
    finish(s);
    /* Runs whose messages are all done long since need not wait for their time. */
    while (s->n_timed && s->timed[0].last < s->floor)
        take_timed(s);
    return s->n_timed ? s->timed[0].due_ms : -1;
}

/* ---- age, and what a stream needs to know ---- */

bool sub_needs(const struct sub *s, uint64_t first, uint64_t last)
{
    if (last >= s->cursor)
        return true;
    uint64_t seq = first;
    for (const struct slot *t; (t = next_slot(s, &seq, last)); seq++)
        if (t->state != SLOT_DONE)
            return true;
    size_t i = dead_at(s, first);
    return i < s->n_dead && s->dead[i].seq <= last;
}

void sub_expire(struct sub *s, uint64_t first)
{
    if (first <= s->floor)
        return;
    if (s->cursor < first) {
        s->expired += first - s->cursor;
        advance(s, first);
    }
    uint64_t seq = s->floor;
    for (struct slot *t; (t = next_slot(s, &seq, first - 1)); seq++)
        if (t->state != SLOT_DONE && t->state != SLOT_DEAD) {
            s->expired += t->deliveries > 0;
            set_state(s, seq, t, SLOT_DONE);
        }
    advance_floor(s);
}

/* ---- the log ---- */

void sub_record(const struct sub *s, struct buf *out)
{
    AUTO_BUF struct buf done = {0}, counts = {0};
    uint64_t from = 0;
    for (uint64_t seq = s->floor; seq <= s->cursor; seq++) {
        const struct slot *t = seq < s->cursor ? slot_of(s, seq) : NULL;
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
}

/* In place of what is known of the subscription. False when the record makes no sense. */
bool sub_replay_record(struct stream *st, uint32_t id, const unsigned char *p, size_t n)
{
    uint64_t floor, cursor, a, b;
    uint32_t n_name, n_done, n_counts, n_dead;
    if (!take_u64(&p, &n, &floor) || !take_u64(&p, &n, &cursor) || !take_u32(&p, &n, &n_name) || !take_u32(&p, &n, &n_done) ||
        !take_u32(&p, &n, &n_counts) || !take_u32(&p, &n, &n_dead) || n_name > n || n_name > 200 || !floor || cursor < floor)
        return false;
    AUTO_FREE char *name = xstrndup((const char *)p, n_name);
    p += n_name;
    n -= n_name;
    struct sub *old = stream_sub(st, name), *s;
    if (old) { /* what a later segment begins with says the same again */
        s = old;
        for (size_t i = 0; i < st->n_subs; i++)
            if (st->subs[i] == old) {
                sub_free(old);
                s = st->subs[i] = sub_new(st, name, id, floor);
            }
    } else {
        st->subs = xrealloc(st->subs, (st->n_subs + 1) * sizeof(struct sub *));
        s = st->subs[st->n_subs++] = sub_new(st, name, id, floor);
    }
    advance(s, cursor);
    while (n_done--) {
        if (!take_u64(&p, &n, &a) || !take_u64(&p, &n, &b) || a < floor || b >= cursor)
            return false;
        uint64_t seq = a;
        for (struct slot *t; (t = next_slot(s, &seq, b)); seq++)
            if (t->state != SLOT_DONE)
                set_state(s, seq, t, SLOT_DONE);
    }
    while (n_counts--) {
        if (!take_u64(&p, &n, &a) || !take_u64(&p, &n, &b))
            return false;
        struct slot *t = a >= floor && a < cursor ? slot_of(s, a) : NULL;
        if (t)
            t->deliveries = (uint8_t)b;
    }
    while (n_dead--) {
        uint64_t seq, wall_ms;
        uint32_t deliveries, len;
        if (!take_u64(&p, &n, &seq) || !take_u64(&p, &n, &wall_ms) || !take_u32(&p, &n, &deliveries) || !take_u32(&p, &n, &len) ||
            len > n)
            return false;
        add_dead(s, seq, (uint8_t)deliveries, (int64_t)wall_ms, (const char *)p, len);
        p += len;
        n -= len;
    }
    return true;
}

void sub_replay_ranges(struct sub *s, int type, const struct range *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (v[i].first > v[i].last || v[i].last >= s->stream->next_seq + (1ULL << 32))
            continue;
        advance(s, v[i].last + 1);
        uint64_t seq = v[i].first;
        for (struct slot *t; (t = next_slot(s, &seq, v[i].last)); seq++) {
            if (t->state == SLOT_DONE || t->state == SLOT_DEAD)
                continue;
            if (type == REC_ACK)
                set_state(s, seq, t, SLOT_DONE);
            else if (t->deliveries < MAX_DELIVERIES_COUNTED)
                t->deliveries++;
        }
    }
    finish(s);
}

/* All that has a slot and is not done waits to be handed out, in order. */
void sub_recovered(struct sub *s)
{
    s->again.n = 0;
    uint64_t seq = s->floor;
    for (const struct slot *t; (t = next_slot(s, &seq, UINT64_MAX)); seq++)
        if (t->state == SLOT_AGAIN)
            push(&s->again, seq);
    finish(s);
}
