/* isolation = "full": the run's own namespaces, a file system view of its own, and the process that is init in them.
 *
 *   runner (outside) ── init (pid 1 of the run, platform's uid, no capability) ── the app
 *
 * Init starts the app and reaps what comes to it; when the app's main process has ended, init writes its wait status to a pipe and
 * ends. The kernel then ends whatever is left in the pid namespace, so no process of the run outlives its init.
 *
 * Namespaces that do not depend on the run can be made ahead of it (isolate_prepare), since making and removing some of them
 * takes the kernel longer than everything else. */
#ifndef SIMBDP_RUNNER_ISOLATE_H
#define SIMBDP_RUNNER_ISOLATE_H

#include "child.h"

#include <signal.h>

enum { ISOLATE_N_SPACES = 4 }; /* mount, ipc, uts, cgroup */

/* Descriptors of namespaces, -1: none. A namespace lives as long as its descriptor is open. */
struct isolate_spaces {
    int fd[ISOLATE_N_SPACES];
    int network; /* the runner goes there (run_relay.h), not the run's init */
};

/* Makes namespaces with the view of runs of this home. False when it cannot; then the run makes its own. Blocks about 1 ms. */
bool isolate_prepare(struct isolate_spaces *ret, const char *home);
void isolate_release(struct isolate_spaces *s);

/* Sent to init from outside: it kills everything else of the run, and ends. Nobody in the run may signal it. */
#define ISOLATE_END_SIGNAL SIGUSR2

struct isolate_plan {
    const struct child_plan *child;
    const struct isolate_spaces *spaces; /* prepared ones; NULL: the process was made with those it needs */
    int network;                         /* a namespace to go into; -1: the process was born in the run's */
    int status_fd;                       /* gets the main process' wait status, an int */
};

/* The flags that the process which calls isolate_init is to be made with (clone3); CLONE_INTO_CGROUP and the exit signal are the
 * caller's. */
unsigned long isolate_clone_flags(bool prepared);

/* In that process: builds the run's view, starts the app and stays its init. Failures go to the child's report_fd. Never returns.
 */
_Noreturn void isolate_init(const struct isolate_plan *p);

#endif
