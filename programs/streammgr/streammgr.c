#include "streammgr.h"

void streammgr_wake_in(struct streammgr *m, int64_t ms)
{
    struct timeval left, now, tv = {ms / 1000, ms % 1000 * 1000};
    event_base_gettimeofday_cached(m->base, &now);
    if (event_pending(m->tick_ev, EV_TIMEOUT, &left) &&
        (left.tv_sec - now.tv_sec) * 1000 + (left.tv_usec - now.tv_usec) / 1000 <= ms)
        return;
    if (ms <= 0)
        tv = (struct timeval){0, 1000};
    event_add(m->tick_ev, &tv);
}
