/* How a step begins: its files, and its first process. */
#ifndef SIMBDP_RUNNER_START_H
#define SIMBDP_RUNNER_START_H

#include "step.h"

/* Makes what the claimed directory holds: the spec's files, app/, log, output, the result's space. 0, or negative. */
int start_files(struct runner *r, struct err *e);
/* Copies the secrets there. 0, or negative: what the configuration names is not there. Behind start_files, so that it can be told.
 */
int start_secrets(struct runner *r, struct err *e);
/* Starts the app; the read ends of its pipes are the runner's. What exec failed with is in `failure` and evidence.exec_errno.
 * 0, or negative when there is no process at all. Blocks until exec came about. */
int start_app(struct runner *r, struct err *e);

/* What the run's cgroups hold it to. */
struct cgroup_limits start_limits(const struct run_spec *s);

#endif
