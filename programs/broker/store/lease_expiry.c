/* When leases and delays end. A heap of runs of messages by the time at which the first of each is due; a lease that was extended
 * is put back when its old time comes. */
#include "parts.h"

#include "base/mem.h"

#include <string.h>

enum { TIMED_KEPT = 4096 };

static bool is_over(const struct sub *s, const struct timed *run)
{
    uint64_t seq = run->first;
    for (const struct slot *t; (t = sub_next_slot(s, &seq, run->last)); seq++)
        if (run->consumer ? slot_is_held(t, run->consumer) : t->state == SLOT_DELAYED)
            return false;
    return true;
}

static void sift_up(struct sub *s, struct timed t, size_t i)
{
    for (; i > 0 && s->timed[(i - 1) / 2].due_ms > t.due_ms; i = (i - 1) / 2)
        s->timed[i] = s->timed[(i - 1) / 2];
    s->timed[i] = t;
}

/* A run is kept until it is due although its messages are done; with a long lease there would be one for every batch. Those that
 * are over are forgotten whenever their number has doubled. */
static void forget_over(struct sub *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_timed; i++)
        if (!is_over(s, &s->timed[i]))
            sift_up(s, s->timed[i], n++); /* n is at most i */
    s->n_timed = n;
    s->forget_timed_at = n * 2 > TIMED_KEPT ? n * 2 : TIMED_KEPT;
}

void sub_add_timed(struct sub *s, struct timed t)
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

/* Ends the leases, or the delay, of a run as far as they are due. What was extended is put back. */
static void end_timed(struct sub *s, struct timed run, int64_t now_ms, int64_t wall_ms)
{
    int64_t later = -1;
    uint64_t seq = run.first;
    struct consumer *c = run.consumer ? s->consumers[run.consumer - 1] : NULL;
    bool alone = c && c->window->n_leased == 1;
    for (struct slot *t; (t = sub_next_slot(s, &seq, run.last)); seq++) {
        if (!run.consumer && t->state == SLOT_DELAYED && t->until_ms <= now_ms) {
            sub_set_state(s, seq, t, SLOT_AGAIN);
        } else if (c && slot_is_held(t, run.consumer)) {
            if (t->until_ms <= now_ms) {
                c->window->n_ran_out++;
                sub_fail(s, seq, t, alone, "its lease ran out", wall_ms);
            } else if (later < 0 || t->until_ms < later)
                later = t->until_ms;
        }
    }
    if (later >= 0)
        sub_add_timed(s, (struct timed){later, run.first, run.last, run.consumer});
}

int64_t sub_end_leases(struct sub *s, int64_t now_ms, int64_t wall_ms)
{
    while (s->n_timed && s->timed[0].due_ms <= now_ms)
        end_timed(s, take_timed(s), now_ms, wall_ms);
    sub_finish(s);
    /* Runs in front whose messages are all done need not wait until they are due. */
    while (s->n_timed && s->timed[0].last < s->floor)
        take_timed(s);
    return s->n_timed ? s->timed[0].due_ms : -1;
}
