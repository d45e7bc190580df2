#include "refusals.h"

static void forget(struct refusals *r, int64_t now_ms)
{
    double forgotten = (double)(now_ms - r->at_ms) / 1000 * REFUSALS_PER_S;
    r->n = r->n > forgotten ? r->n - forgotten : 0;
    r->at_ms = now_ms;
    r->told &= r->n > REFUSALS_AT_ONCE / 2.0;
}

void refusals_count(struct refusals *r, int64_t now_ms)
{
    forget(r, now_ms);
    r->n++;
}

bool refusals_slow_down(struct refusals *r, int64_t now_ms)
{
    forget(r, now_ms);
    return r->n >= REFUSALS_AT_ONCE;
}

bool refusals_must_tell(struct refusals *r, int64_t now_ms)
{
    bool must = refusals_slow_down(r, now_ms) && !r->told;
    r->told |= must;
    return must;
}
