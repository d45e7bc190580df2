#include "inspect_order.h"

#include <stddef.h>

static const double least_charge_s = 0.001; /* the least that an inspection is charged */
static const double warm_s = 0.05;          /* how far ahead of the others one may get without a change of tenant */

void inspect_order_charge(struct inspect_share *s, int64_t ms, int64_t weight)
{
    double seconds = ms > 0 ? (double)ms / 1000 : 0;
    s->used += (seconds > least_charge_s ? seconds : least_charge_s) / (double)(weight > 0 ? weight : 1);
}

void inspect_order_join(struct inspect_share *s, const struct inspect_share *least)
{
    if (least && s->used < least->used)
        s->used = least->used;
}

bool inspect_order_may_start(const struct inspect_pool *p, const struct inspect_share *s)
{
    int in_lanes = p->n_held - p->n_aside;
    if (s->n_held >= p->n_lanes)
        return false;
    return in_lanes < p->n_lanes || (in_lanes == p->n_lanes && s->n_held == 0);
}

bool inspect_order_before(const struct inspect_share *a, const struct inspect_share *b)
{
    return a->used < b->used || (a->used == b->used && a->n_held < b->n_held);
}

bool inspect_order_goes_on(const struct inspect_share *s, const struct inspect_share *first)
{
    return s->used <= first->used + warm_s;
}

bool inspect_order_stands_aside(const struct inspect_pool *p, int64_t age_ms)
{
    return p->n_held - p->n_aside > p->n_lanes && p->n_aside < INSPECT_ORDER_MAX_ASIDE && age_ms >= INSPECT_ORDER_SLOT_MS;
}

bool inspect_order_steps_back(int64_t age_ms, int64_t youngest_other_ms)
{
    return age_ms >= INSPECT_ORDER_SLOT_MS && youngest_other_ms >= 0 && youngest_other_ms * 2 < age_ms;
}
