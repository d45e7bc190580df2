#include "rolling_update.h"

enum rolling_step rolling_update_step(const struct app_view *v)
{
    int64_t n_old = v->n_old_ready + v->n_old_unready, n = n_old + v->n_new_ready + v->n_new_unready;
    bool replacing = v->may_start && n_old && v->target;
    bool beside = replacing && (v->target < v->max || !v->n_new_ready);
    bool proved = v->n_new_ready && !v->n_new_unready;
    int64_t most = v->target + beside;
    if (n > most || n_old > v->target)
        return ROLLING_drain;
    if (!v->may_start)
        return ROLLING_nothing;
    /* An old one that does not work is no loss: it goes without waiting for a new one, since that needs its place. */
    if (replacing && n > v->target && (proved || v->n_old_unready))
        return ROLLING_drain_old;
    if (replacing && n == v->target && proved && !beside)
        return ROLLING_drain_old;
    return n < most ? ROLLING_start : ROLLING_nothing;
}
