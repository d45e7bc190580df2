#include "fair.h"

#include <stddef.h>

static const double least_charge_s = 0.001; /* the least that an inspection is charged */
static const double warm_s = 0.05;          /* how far ahead of the others one may get without a change of tenant */

void fair_charge(struct fair_share *s, int64_t ms, int64_t weight)
{
    double seconds = ms > 0 ? (double)ms / 1000 : 0;
    s->used += (seconds > least_charge_s ? seconds : least_charge_s) / (double)(weight > 0 ? weight : 1);
}

void fair_join(struct fair_share *s, const struct fair_share *least)
{
    if (least && s->used < least->used)
        s->used = least->used;
}

bool fair_may_start(const struct fair_pool *p, const struct fair_share *s)
{
    int in_lanes = p->n_held - p->n_aside;
    if (s->n_held >= p->n_lanes)
        return false;
    return in_lanes < p->n_lanes || (in_lanes == p->n_lanes && s->n_held == 0);
}

bool fair_before(const struct fair_share *a, const struct fair_share *b)
{
    return a->used < b->used || (a->used == b->used && a->n_held < b->n_held);
}

bool fair_goes_on(const struct fair_share *s, const struct fair_share *first)
{
    return s->used <= first->used + warm_s;
}

bool fair_stands_aside(const struct fair_pool *p, int64_t age_ms)
{
    return p->n_held - p->n_aside > p->n_lanes && p->n_aside < FAIR_MAX_ASIDE && age_ms >= FAIR_SLOT_MS;
}

bool fair_steps_back(int64_t age_ms, int64_t youngest_other_ms)
{
    return age_ms >= FAIR_SLOT_MS && youngest_other_ms >= 0 && youngest_other_ms * 2 < age_ms;
}
