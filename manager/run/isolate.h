/* isolation = "full": the run's own namespaces, a file system view of its own, and the process that is init in them.
 *
 *   runner (outside) ── init (pid 1 of the run, platform's uid, no capability) ── the app
 *
 * Init starts the app and reaps what comes to it; when the app's main process has ended, init tells its wait status and ends, and
 * with it the kernel ends whatever is left in the pid namespace: there is no process of the run that outlives it. */
#ifndef SIMBDP_ISOLATE_H
#define SIMBDP_ISOLATE_H

#include "child.h"

struct isolate_plan {
    const struct child_plan *child;
    int status_fd; /* gets the main process' wait status, an int */
};

/* The flags that the process which calls isolate_init is to be made with (clone3); CLONE_INTO_CGROUP and the exit signal are the
 * caller's. */
unsigned long isolate_clone_flags(const struct run_spec *s);

/* In that process: builds the run's view, starts the app and stays its init. Failures go to the child's report_fd. Never returns. */
_Noreturn void isolate_init(const struct isolate_plan *p);

#endif
