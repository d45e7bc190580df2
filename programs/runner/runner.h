/* The runner: one step of one run of one executable. */
#ifndef SIMBDP_RUNNER_RUNNER_H
#define SIMBDP_RUNNER_RUNNER_H

#include "isolate.h"

#include "host/cgroup.h"
#include "run/spec.h"

struct runner_ahead {
    const char *cgroups; /* those that it entered (cgroup_enter); NULL: none */
    struct isolate_spaces spaces;
    bool has_spaces;
};

/* Runs the step and returns when its result is durable and, if `conn` is not -1, acknowledged. `conn` is one end of a
 * stream socket: a manager's order channel (TAKEN). Without one (a cluster scheduler runs us) nobody acknowledges.
 * `ahead` (NULL: none): what this process made ahead of the run; its namespaces are TAKEN.
 * Returns 0 when the step ran and its result is written, whatever its outcome; negative when it never started. */
int runner_main(const struct run_spec *spec, const struct cgroup_host *cg, int conn, struct runner_ahead *ahead, struct err *e);

#endif
