/* Timers in milliseconds. */
#ifndef SIMBDP_LOOP_TIMER_H
#define SIMBDP_LOOP_TIMER_H

#include <event2/event.h>
#include <stdint.h>

/* Sets a timer, or sets it anew; with EV_PERSIST it comes again after as long. 0 or less: once all that is ready now had its turn
 * (event_active would come before it). 0 or -1, as event_add. */
static inline int timer_set(struct event *ev, int64_t ms)
{
    struct timeval tv = {ms > 0 ? ms / 1000 : 0, ms > 0 ? ms % 1000 * 1000 : 0};
    return event_add(ev, &tv);
}

#endif
