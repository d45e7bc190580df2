/* What a finished process tree means: a plain function from evidence to outcome. */
#ifndef SIMBDP_RUNNER_EXIT_STATUS_H
#define SIMBDP_RUNNER_EXIT_STATUS_H

#include "run/spec.h"

struct evidence {
    int exec_errno;         /* above 0: exec, or what has to be set up before it, failed with this errno */
    bool not_apps;          /* and the cause was not the app's own: the host lacked something */
    int status;             /* as waitpid gives it */
    bool wall_exceeded;     /* our wall clock ended it */
    bool output_exceeded;   /* it printed more than an output mode keeps */
    bool full_file;         /* it left a file of exactly fsize_bytes: most likely it was cut off there */
    bool log_cut;           /* it printed more than the log keeps; nothing else is missing */
    enum run_limit scratch; /* the limit that its working directory exceeded */
    bool stopped;           /* a stop order ended it */
    int64_t oom_kills;      /* counted by the kernel */
    bool host_oom;          /* if there are any: not for a memory limit of the run's */
    int64_t pids_refused;   /* counted by the kernel */
    double cpu_s;           /* of the tree */
    int64_t cpu_limit_s;    /* rlimit, -1: none */
};

struct outcome {
    enum run_outcome outcome;
    int exit_code, signal; /* -1: none */
    enum run_limit limit;  /* with RUN_ok: it met this limit, and succeeded all the same; with RUN_failed: this may be why */
};

struct outcome exit_status_meaning(const struct evidence *v);

#endif
