/* A consumer: its life, its window, and what becomes of what it held. */
#include "parts.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

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
    c->window = &c->own;
    s->consumers[i] = c;
    s->n_consumers++;
    return c;
}

void consumer_share(struct consumer *c, const struct consumer *first)
{
    assert(!c->n_leased);
    c->window = first->window;
}

void consumer_set_window(struct consumer *c, uint64_t max_n, uint64_t max_bytes)
{
    c->window->max_n = max_n;
    c->window->max_bytes = max_bytes;
}

uint64_t consumer_n_leased(const struct consumer *c)
{
    return c->window->n_leased;
}

uint64_t consumer_n_ran_out(const struct consumer *c)
{
    return c->window->n_ran_out;
}

void consumer_heard(struct consumer *c)
{
    c->window->n_ran_out = 0;
}

void consumer_ends(struct consumer *c)
{
    c->window->one_at_end = c->window->n_leased == 1;
    c->window->ends = true;
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

void consumer_detach(struct consumer *c, bool lost, int64_t wall_ms)
{
    struct sub *s = c->sub;
    bool alone = c->window->ends ? c->window->one_at_end : c->window->n_leased == 1;
    uint64_t seq =
        c->low > s->floor ? c->low : s->floor; /* not from the floor: thousands of consumers may go at once, and much be leased */
    for (struct slot *t; c->n_leased && (t = sub_next_slot(s, &seq, UINT64_MAX)); seq++)
        if (slot_is_held(t, c->id) && lost)
            sub_fail(s, seq, t, alone, "its consumer went away", wall_ms);
        else if (slot_is_held(t, c->id))
            sub_set_state(s, seq, t, SLOT_AGAIN);
    s->consumers[c->id - 1] = NULL;
    s->n_consumers--;
    free(c);
    sub_finish(s);
}
