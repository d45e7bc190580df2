/* What became of each message of a subscription, from its floor to its cursor: a slot for each, in chunks. A chunk is freed once
 * all of its messages are done or dead. Two rings hold the messages that wait to be handed out again.
 *
 * A ring may hold a sequence twice, or one whose state has changed since: who takes from it looks at the slot (lease.c). */
#include "parts.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

struct chunk chunk_all_done = {.n_over = CHUNK};

void ring_push(struct ring *r, uint64_t seq)
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

uint64_t ring_pop(struct ring *r)
{
    uint64_t seq = r->v[r->head];
    r->head = (r->head + 1) & (r->cap - 1);
    r->n--;
    return seq;
}

struct slot *sub_next_slot(const struct sub *s, uint64_t *seq, uint64_t last)
{
    uint64_t end = last < s->cursor ? last + 1 : s->cursor;
    if (*seq < s->floor)
        *seq = s->floor;
    while (*seq < end) {
        struct slot *t = sub_slot_of(s, *seq);
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
        c->n_over++;
    }
    return c;
}

static void drop_front(struct sub *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s->chunks[i] != &chunk_all_done)
            free(s->chunks[i]);
    s->n_chunks -= n;
    if (n)
        memmove(s->chunks, s->chunks + n, s->n_chunks * sizeof(struct chunk *));
}

void sub_advance(struct sub *s, uint64_t next)
{
    for (; s->cursor < next; s->cursor++) {
        if (s->cursor / CHUNK - s->floor / CHUNK >= s->n_chunks) {
            insert_chunks(s, s->n_chunks, 1);
            s->chunks[s->n_chunks - 1] = chunk_new(s->cursor / CHUNK, s->floor);
        }
        s->n_again++; /* not in the ring: the caller sets the state at once */
    }
}

void sub_advance_floor(struct sub *s)
{
    uint64_t floor = s->floor;
    while (floor < s->cursor) {
        struct chunk *c = s->chunks[floor / CHUNK - s->floor / CHUNK];
        if (c == &chunk_all_done) {
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
    if (floor != s->floor)
        sub_touch(s);
    s->floor = floor;
}

/* ---- a slot's state ---- */

/* The states that each state may become. What is done or dead comes back only by a replay. AGAIN to DEAD happens while the log is
 * read: leases are not in it. */
static const uint8_t moves[N_SLOT_STATES] = {
#define TO(state) (1 << SLOT_##state)
    [SLOT_AGAIN] = TO(LEASED) | TO(DONE) | TO(DEAD),
    [SLOT_SUSPECT] = TO(LEASED) | TO(DONE),
    [SLOT_DELAYED] = TO(AGAIN) | TO(DONE),
    [SLOT_LEASED] = TO(AGAIN) | TO(SUSPECT) | TO(DELAYED) | TO(DONE) | TO(DEAD),
    [SLOT_DONE] = TO(AGAIN),
    [SLOT_DEAD] = TO(AGAIN) | TO(DONE),
#undef TO
};

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

void sub_set_state(struct sub *s, uint64_t seq, struct slot *t, enum slot_state state)
{
    assert(moves[t->state] & 1 << state);
    struct chunk **c = sub_chunk_of(s, seq);
    uint64_t *n = count_of(s, t->state);
    if (n)
        --*n;
    if (t->state == SLOT_LEASED) {
        struct consumer *holder = s->consumers[t->consumer - 1];
        holder->n_leased--;
        holder->window->n_leased--;
        holder->window->leased_bytes -= t->bytes;
    }
    (*c)->n_over -= slot_is_over(t->state);
    (*c)->n_over += slot_is_over(state);
    t->state = state;
    n = count_of(s, state);
    if (n)
        ++*n;
    if (state == SLOT_AGAIN)
        ring_push(&s->again, seq);
    if (state == SLOT_SUSPECT)
        ring_push(&s->suspects, seq);
    if ((*c)->n_over == CHUNK) {
        free(*c);
        *c = &chunk_all_done;
    }
}

/* All between seq and the floor is done: the window is opened again down to seq. */
static void lower_floor(struct sub *s, uint64_t seq)
{
    size_t more = (size_t)(s->floor / CHUNK - seq / CHUNK);
    if (!s->n_chunks) {
        insert_chunks(s, 0, 1);
        s->chunks[0] = chunk_new(s->floor / CHUNK, s->floor);
    }
    if (more) {
        insert_chunks(s, 0, more);
        for (size_t i = 0; i < more; i++)
            s->chunks[i] = &chunk_all_done;
    }
    s->floor = seq;
    sub_touch(s);
}

void sub_reopen(struct sub *s, uint64_t seq)
{
    if (seq < s->floor)
        lower_floor(s, seq);
    struct chunk **c = sub_chunk_of(s, seq);
    if (*c == &chunk_all_done)
        *c = chunk_new(seq / CHUNK, (seq / CHUNK + 1) * CHUNK);
    struct slot *t = &(*c)->v[seq % CHUNK];
    if (!slot_is_over(t->state)) /* only a record that makes no sense says so */
        return;
    *t = (struct slot){.state = t->state}; /* its deliveries count from the beginning */
    sub_set_state(s, seq, t, SLOT_AGAIN);
}

void sub_free_slots(struct sub *s)
{
    drop_front(s, s->n_chunks);
    free(s->chunks);
    free(s->again.v);
    free(s->suspects.v);
}
