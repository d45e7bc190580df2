/* The closed sets that a run's spec and result name. In memory they are enums; in spec.json, result.json, the ledger and the book
 * of instances they are texts, which are the names in these tables and stay as they are: files of earlier versions have them.
 *
 * x_name gives the text, static. x_of finds the value of a text: 0, or ERR_FORMAT for a text that is none of them (*ret is
 * untouched then). Texts come from disk, so none of these asserts on them. */
#ifndef SIMBDP_RUN_KINDS_H
#define SIMBDP_RUN_KINDS_H

#include "base/err.h"

/* What a step of a run does. `check`: the app's checker looks at the file; `app`: the app itself; `load`: the platform stores what
 * the app put out. */
#define RUN_STEPS(X) X(app) X(check) X(load)
enum run_step {
#define X(name) RUN_STEP_##name,
    RUN_STEPS(X)
#undef X
        RUN_N_STEPS
};
const char *run_step_name(enum run_step s);
int run_step_of(const char *text, enum run_step *ret);

/* What of the app's output the platform keeps, to load it: nothing, what it prints, or the files in SIMBDP_OUTPUT_DIR. */
#define RUN_OUTPUTS(X) X(none) X(stdout) X(dir)
enum run_output {
#define X(name) RUN_OUTPUT_##name,
    RUN_OUTPUTS(X)
#undef X
        RUN_N_OUTPUTS
};
const char *run_output_name(enum run_output o);
int run_output_of(const char *text, enum run_output *ret);

/* How a step ended. */
#define RUN_OUTCOMES(X) X(ok) X(data_error) X(temp_fail) X(failed) X(timeout) X(oom) X(killed) X(limit) X(exec_error) X(lost)
enum run_outcome {
#define X(name) RUN_##name,
    RUN_OUTCOMES(X)
#undef X
        RUN_N_OUTCOMES
};
const char *run_outcome_name(enum run_outcome o);
int run_outcome_of(const char *text, enum run_outcome *ret);

/* The limit that a step met, by its configuration key. */
#define RUN_LIMITS(X) X(wall_s) X(output_bytes) X(scratch_bytes) X(scratch_inodes) X(cpu_s) X(fsize_bytes) X(memory_bytes) X(pids)
enum run_limit {
    RUN_LIMIT_none,
#define X(name) RUN_LIMIT_##name,
    RUN_LIMITS(X)
#undef X
        RUN_N_LIMITS
};
const char *run_limit_name(enum run_limit l);            /* RUN_LIMIT_none: NULL, which is no text in any file */
int run_limit_of(const char *text, enum run_limit *ret); /* NULL: RUN_LIMIT_none */

/* What ended a run that is a job of a cluster, other than itself and its manager. None of it is charged to the app. */
#define RUN_CAUSES(X) X(node_lost) X(preempted) X(requeued) X(cancelled) X(time_limit)
enum run_cause {
    RUN_CAUSE_none,
#define X(name) RUN_CAUSE_##name,
    RUN_CAUSES(X)
#undef X
        RUN_N_CAUSES
};
const char *run_cause_name(enum run_cause c);            /* RUN_CAUSE_none: NULL */
int run_cause_of(const char *text, enum run_cause *ret); /* NULL: RUN_CAUSE_none */

#endif
