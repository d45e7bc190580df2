/* What is known of a step that is a job, and what follows from it: functions without clock, loop or processes. */
#ifndef SIMBDP_SLURM_FACTS_H
#define SIMBDP_SLURM_FACTS_H

#include "run/spec.h"

#include <stdbool.h>

/* States of squeue and sacct, as far as they make a difference. */
enum slurm_state {
    SLURM_PENDING,
    SLURM_RUNNING,
    SLURM_LIVE,      /* begins, ends, is suspended: something of it may be on its node */
    SLURM_COMPLETED, /* the rest: it is over. Its script ended with 0 */
    SLURM_FAILED,
    SLURM_CANCELLED,
    SLURM_TIMEOUT,
    SLURM_NODE_FAIL, /* what Slurm says of a node that it does not hear: nothing is known of what runs there */
    SLURM_PREEMPTED,
    SLURM_OUT_OF_MEMORY,
};
/* Of its word; words of later versions are LIVE, so that nothing is concluded from them. */
enum slurm_state slurm_state_of(const char *word);
bool slurm_state_is_over(enum slurm_state s);

/* A line of `squeue -O`, its fields ended by '|'. Points into the line, which is cut. False: it is none. */
struct slurm_line {
    const char *id, *name, *word, *reason, *node;
    int restarts;
};
#define SLURM_FIELDS "JobID:|,Name:|,State:|,Reason:|,NodeList:|,RestartCnt:|"
bool slurm_line_parse(char *line, struct slurm_line *ret);

/* The state of the job of that name in what `sacct --format=JobName,State` printed, which is cut. False: it is not there, or not
 * over. */
bool slurm_recall(char *text, const char *name, enum slurm_state *ret, const char **ret_word);

/* What sbatch says when it fails: true when it refuses the job as it is. Anything else may pass, and the job may even have been
 * taken. */
bool slurm_is_refusal(const char *text);

/* RUN_HOLDER's line. */
struct holder {
    char node[256], job[32];
    int restarts;
};
bool holder_parse(const char *text, struct holder *ret);

struct job_facts {
    bool submitted; /* there may be a job of it */
    bool answered;  /* Slurm has told of its jobs since */
    bool listed;
    enum slurm_state state; /* where it is listed */
    int restarts;
    bool fenced, held, result; /* on disk: the step's directory, RUN_HOLDER and result.json in it */
    int holder_restarts;
    bool foreign_stop; /* the result says that SIGTERM ended it, and that was none of ours */
    bool stop;         /* ordered by the manager */
    bool gone;         /* its node says that nothing of it is left */
    bool node_is_off;  /* a person says that its node is off */
    bool shared;       /* its job is a pilot, which others are in */
    bool settled;      /* that for so long that Slurm would have said by now if it had ended the pilot */
    bool left;         /* its pilot goes on, and has it no more: no runner of it is there */
};

enum job_act {
    JOB_NOTHING,
    JOB_SUBMIT,
    JOB_FENCE,  /* keep it from beginning; then it is NOT_STARTED */
    JOB_RUNS,   /* say so */
    JOB_SIGNAL, /* SIGTERM for its runner */
    JOB_CANCEL, /* it was requeued, and may not begin again */
    JOB_PROBE,  /* have its node end what is left, and say so */
    JOB_LOST,   /* there will be no result, and nothing of it is left */
    JOB_FINISH, /* the result counts */
};
enum job_act job_next(const struct job_facts *f);

/* Why it ended, for a step without a result or with one that SIGTERM brought about. The spec's own limit is the run's fault: then
 * outcome and limit are set. */
void job_blame(const struct job_facts *f, const struct run_spec *spec, struct run_result *res);

#endif
