/* What a finished process tree means: a plain function from evidence to outcome. */
#ifndef SIMBDP_RUNNER_OUTCOME_H
#define SIMBDP_RUNNER_OUTCOME_H

#include "run/spec.h"

struct evidence {
    int exec_errno;         /* over 0: exec, or the set-up before it, failed */
    bool not_apps;          /* and for nothing that is the app's own */
    int status;             /* as waitpid gives it */
    bool wall_exceeded;     /* our wall clock ended it */
    bool output_exceeded;   /* it printed more than an output mode keeps */
    bool full_file;         /* it left a file of just fsize_bytes, as one is that was cut off there */
    bool log_cut;           /* it printed more than is kept, and lost nothing but that */
    enum run_limit scratch; /* that its working directory broke */
    bool stopped;           /* a stop order ended it */
    int64_t oom_kills;      /* counted by the kernel */
    int64_t pids_refused;   /* counted by the kernel */
    double cpu_s;           /* of the tree */
    int64_t cpu_limit_s;    /* rlimit, -1: none */
};

struct outcome {
    enum run_outcome outcome;
    int exit_code, signal; /* -1: none */
    enum run_limit limit;  /* of RUN_ok: it was held to this limit, which did no harm; of RUN_failed: that may be why */
};

struct outcome outcome_of(const struct evidence *v);

#endif
