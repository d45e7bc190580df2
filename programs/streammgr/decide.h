/* What streammgr decides about an app's instances, as plain functions: no loop, no clock, no files. */
#ifndef SIMBDP_STREAMMGR_DECIDE_H
#define SIMBDP_STREAMMGR_DECIDE_H

#include <stdbool.h>
#include <stdint.h>

struct app_view {
    int64_t target; /* how many there should be, within the agreement */
    int64_t max;    /* max_instances */
    bool may_start; /* nothing forbids it */
    /* Instances that were not told to go, by the generation (configuration and executable) they are of: the wanted one, or another.
     * ready: they work, and have for a moment. */
    int64_t n_new_ready, n_new_unready, n_old_ready, n_old_unready;
};

enum decision {
    DECIDE_nothing,
    DECIDE_start,
    DECIDE_drain,     /* one, whoever can be spared best */
    DECIDE_drain_old, /* one of another generation, which is replaced */
};

/* One step towards what should be; to be asked again after it was taken. Instances of another generation are replaced one by one: a
 * new one is started beside them, as long as none is ready also above `max`, and an old one that works goes only when the new ones
 * do. There are never more than max + 1, unless there were before. */
enum decision decide(const struct app_view *v);

/* How long to wait before the next start after so many ends in a row: 0 after the first, then 100 ms, doubling up to a minute. The
 * upper half is taken at random (uniform in 32 bits), so that what failed together does not come back together. */
int64_t restart_delay_ms(int64_t failures, uint32_t random);

#endif
