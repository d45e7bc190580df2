/* What a run uses now, and what it may, as the kernel counts it in the run's cgroups. */
#ifndef SIMBDP_HOST_CGROUP_USE_H
#define SIMBDP_HOST_CGROUP_USE_H

#include "cgroup.h"

struct cgroup_use {
    double cpu_s;                       /* since the run began; NaN: unknown */
    int64_t memory_bytes;               /* -1: unknown. Without what the kernel would drop first: pages of files not used lately */
    int64_t pids;                       /* -1: unknown. With the run's init */
    double max_cpus;                    /* NaN: no limit */
    int64_t max_memory_bytes, max_pids; /* -1: no limit, or unknown */
};

/* Of the run (or its step) of that name; what the host does not count is unknown. False, and all is: it has no cgroup. Does not
 * block. */
bool cgroup_use_of(const struct cgroup_host *h, const char *name, struct cgroup_use *ret);

#endif
