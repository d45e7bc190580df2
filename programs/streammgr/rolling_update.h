/* What streammgr decides about an app's instances, as plain functions: no loop, no clock, no files. */
#ifndef SIMBDP_STREAMMGR_ROLLING_UPDATE_H
#define SIMBDP_STREAMMGR_ROLLING_UPDATE_H

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

enum rolling_step {
    ROLLING_nothing,
    ROLLING_start,
    ROLLING_drain,     /* one, whoever can be spared best */
    ROLLING_drain_old, /* one of another generation, which is replaced */
};

/* One step towards what should be; to be asked again after it was taken. Instances of another generation are replaced one by one: a
 * new one is started beside them, as long as none is ready also above `max`, and an old one that works goes only when the new ones
 * do. There are never more than max + 1, unless there were before. */
enum rolling_step rolling_update_step(const struct app_view *v);

#endif
