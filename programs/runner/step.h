/* One step as its runner has it; what runner.c and its modules (start, channel, claim, ending, take, result) share. */
#ifndef SIMBDP_RUNNER_STEP_H
#define SIMBDP_RUNNER_STEP_H

#include "capture.h"
#include "child.h"
#include "isolate.h"
#include "run_relay.h"
#include "exit_status.h"
#include "scratch.h"

#include "host/cgroup.h"
#include "run/spec.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* stopping: SIGTERM was sent, grace_s runs. killing: until nothing is left. ended: the kernel said so. */
#define RUNNER_STATES(X) X(starting) X(running) X(stopping) X(killing) X(ended)
enum runner_state {
#define X(name) RUNNER_##name,
    RUNNER_STATES(X)
#undef X
        RUNNER_N_STATES
};

struct runner {
    const struct run_spec *spec;
    const struct cgroup_host *cg;
    const char *ahead;             /* cgroups that we entered and that are the run's now; NULL: none, or left again */
    struct isolate_spaces *spaces; /* made ahead; NULL: none, or not for this run */
    struct run_relay relay;
    int dirfd, lock, conn, listener, sigfd, result_fd;
    int app;      /* dir/app, the tenant's; with scratch_in_memory the tmpfs that only the run sees there */
    int image;    /* its root, -1: the host's; locked as long as the run lasts, so that it is not removed meanwhile */
    int version;  /* holds the version of the app that it executes, -1: none (host/version_use.h) */
    int out, err; /* read ends of the app's pipes, -1 when closed */
    int status;   /* read end of the pipe that the run's init tells the app's status on, -1: the app is our child */
    struct capture log, collected;
    struct tail
        last_words; /* of stderr; of both where stdout is not collected, which share a pipe so that their lines keep their order */
    bool collects;  /* output = stdout */
    enum runner_state state;
    pid_t pid;
    struct evidence evidence;
    struct child_failure failure;
    bool main_ended, forced;
    int kill_ticks;
    int64_t started_ms, started_wall_ms, deadline_ms, grace_end_ms;
    struct scratch scratch;
    int64_t look_ms;     /* when to look at it again, -1: never */
    int64_t oom_look_ms; /* when to look whether the kernel killed one of its processes for memory, -1: never */
    struct run_result result;
    char said;
};

/* Only forward, to `ended` from `killing` alone; another move is a bug of ours and ends the runner. */
void runner_set_state(struct runner *r, enum runner_state next);

#endif
