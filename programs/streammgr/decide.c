#include "decide.h"

enum { FIRST_DELAY_MS = 100, MAX_DELAY_MS = 60000 };

enum decision decide(const struct app_view *v)
{
    int64_t n_old = v->n_old_ready + v->n_old_unready, n = n_old + v->n_new_ready + v->n_new_unready;
    bool replacing = v->may_start && n_old && v->target;
    bool beside = replacing && (v->target < v->max || !v->n_new_ready);
    bool proved = v->n_new_ready && !v->n_new_unready;
    int64_t most = v->target + beside;
    if (n > most || n_old > v->target)
        return DECIDE_drain;
    if (!v->may_start)
        return DECIDE_nothing;
    /* An old one that does not work is no loss: it goes without waiting for a new one, since that needs its place. */
    if (replacing && n > v->target && (proved || v->n_old_unready))
        return DECIDE_drain_old;
    if (replacing && n == v->target && proved && !beside)
        return DECIDE_drain_old;
    return n < most ? DECIDE_start : DECIDE_nothing;
}

int64_t restart_delay_ms(int64_t failures, uint32_t random)
{
    int64_t delay = 0;
    for (int64_t k = 1; k < failures && delay < MAX_DELAY_MS; k++)
        delay = delay ? delay * 2 : FIRST_DELAY_MS;
    if (delay > MAX_DELAY_MS)
        delay = MAX_DELAY_MS;
    return delay / 2 + (int64_t)((uint64_t)(delay - delay / 2) * random >> 32);
}
