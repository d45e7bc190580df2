/* What a run uses now, and what it may, as the kernel counts it in the run's cgroups. */
#ifndef SIMBDP_HOST_CGROUP_USE_H
#define SIMBDP_HOST_CGROUP_USE_H

#include "cgroup.h"

/* Pressure stall information (Linux Documentation/accounting/psi.rst): seconds in which at least one process waited for a CPU, for
 * memory to be reclaimed or read back, or for a disk. NaN: nobody counts, as where the kernel was started without `psi=1`. */
struct cgroup_waited {
    double cpu_s, memory_s, io_s;
    /* How long the CPU limit held processes back, added up over CPUs (cgroup-v2.rst, cpu.stat). Newer kernels (6.18) do not count
     * it as waiting for a CPU. NaN: there is no such limit, or nobody counts. */
    double throttled_s;
};

struct cgroup_use {
    double cpu_s;                       /* since the run began; NaN: unknown */
    int64_t memory_bytes;               /* -1: unknown. Without what the kernel would drop first: pages of files not used lately */
    int64_t pids;                       /* -1: unknown. With the run's init */
    double max_cpus;                    /* NaN: no limit */
    int64_t max_memory_bytes, max_pids; /* -1: no limit, or unknown */
};

/* How long the processes of the run (or step) of that name waited; NULL: of all runs of the home since its directories were made,
 * those that ended included. Does not block. */
struct cgroup_waited cgroup_waited_of(const struct cgroup_host *h, const char *name);

/* Of the run (or its step) of that name; what the host does not count is unknown. False, and all is: it has no cgroup. Does not
 * block. */
bool cgroup_use_of(const struct cgroup_host *h, const char *name, struct cgroup_use *ret);

#endif
