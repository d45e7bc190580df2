/* Condition variables for pthread_cond_timedwait by CLOCK_MONOTONIC. By default they wait by the calendar, and one that is set back
 * stretches the wait by as much (pthread_condattr_setclock, POSIX.1-2008). */
#ifndef SIMBDP_BASE_COND_H
#define SIMBDP_BASE_COND_H

#include <pthread.h>
#include <time.h>

static inline void cond_init_monotonic(pthread_cond_t *c)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(c, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

#endif
