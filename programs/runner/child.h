/* Between fork and exec: identity, limits, descriptors, signals. Async-signal-safe calls only. */
#ifndef SIMBDP_RUNNER_CHILD_H
#define SIMBDP_RUNNER_CHILD_H

#include "host/cgroup.h"
#include "run/spec.h"

struct child_plan {
    const struct run_spec *spec;
    char **argv, **envp;
    int exec_fd;     /* the executable, opened before the uid changes; -1: by path */
    const char *dir; /* becomes the working directory; by path, since a descriptor would lead out of the run's view */
    int scratch;     /* what is to be mounted there; -1: the host's */
    int in, out, err;
    int procs[CGROUP_N_KINDS]; /* cgroup.procs, -1 where absent */
    int report_fd;             /* gets a struct child_failure when exec did not happen; close-on-exec */
};

enum child_stage {
    CHILD_CGROUP,
    CHILD_VIEW,
    CHILD_LIMITS,
    CHILD_IDENTITY,
    CHILD_REACH, /* a directory on the way is closed to the tenant, mostly one above the home */
    CHILD_CONFINE,
    CHILD_DESCRIPTORS,
    CHILD_DIRECTORY,
    CHILD_EXEC,
};

struct child_failure {
    int stage, err_no;
    char what[120]; /* more exactly, or "" */
};

/* Never returns. */
_Noreturn void child_exec(const struct child_plan *p);

const char *child_stage_name(int stage);

#endif
