/* The runner: one step of one run of one executable. */
#ifndef SIMBDP_RUNNER_H
#define SIMBDP_RUNNER_H

#include "common/cgroup.h"
#include "common/runspec.h"

/* Runs the step and returns when its result is durable and, if `conn` is not -1, acknowledged. `conn` is one end of a
 * stream socket: a manager's order channel (TAKEN). Without one (a cluster scheduler runs us) nobody acknowledges.
 * `ahead` (NULL: none): the cgroups that this process entered ahead of the run (cgroup_enter).
 * Returns 0 when the step ran and its result is written, whatever its outcome; negative when it never started. */
int runner_main(const struct run_spec *spec, const struct cgroup_host *cg, int conn, const char *ahead, struct err *e);

#endif
