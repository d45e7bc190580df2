#include "facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum slurm_state slurm_state_of(const char *word)
{
    static const struct {
        const char *word;
        enum slurm_state state;
    } known[] = {
        {"PENDING", SLURM_PENDING},      {"RUNNING", SLURM_RUNNING},      {"COMPLETED", SLURM_COMPLETED},
        {"FAILED", SLURM_FAILED},        {"CANCELLED", SLURM_CANCELLED},  {"TIMEOUT", SLURM_TIMEOUT},
        {"DEADLINE", SLURM_TIMEOUT},     {"NODE_FAIL", SLURM_NODE_FAIL},  {"BOOT_FAIL", SLURM_NODE_FAIL},
        {"PREEMPTED", SLURM_PREEMPTED},  {"REVOKED", SLURM_CANCELLED},    {"OUT_OF_MEMORY", SLURM_OUT_OF_MEMORY},
        {"REQUEUED", SLURM_PENDING},     {"REQUEUE_HOLD", SLURM_PENDING}, {"REQUEUE_FED", SLURM_PENDING},
        {"SPECIAL_EXIT", SLURM_PENDING},
    };
    size_t n = strcspn(word, " +"); /* sacct says "CANCELLED by 0" */
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].word) == n && !strncmp(known[i].word, word, n))
            return known[i].state;
    return SLURM_LIVE;
}

bool slurm_state_is_over(enum slurm_state s)
{
    return s >= SLURM_COMPLETED;
}

bool slurm_line_parse(char *line, struct slurm_line *ret)
{
    const char *f[6];
    for (int i = 0; i < 6; i++) {
        char *end = strchr(line, '|');
        if (!end)
            return false;
        *end = 0;
        f[i] = line;
        line = end + 1;
    }
    if (!*f[0] || strspn(f[0], "0123456789") != strlen(f[0]) || strlen(f[0]) >= 20)
        return false;
    *ret = (struct slurm_line){f[0], f[1], f[2], f[3], f[4], atoi(f[5])};
    return true;
}

bool slurm_recall(char *text, const char *name, enum slurm_state *ret, const char **ret_word)
{
    size_t n = strlen(name);
    for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (!strncmp(line, name, n) && line[n] == '|' && slurm_state_is_over(slurm_state_of(line + n + 1))) {
            *ret_word = line + n + 1;
            *ret = slurm_state_of(*ret_word);
            return true;
        }
    return false;
}

bool slurm_is_refusal(const char *text)
{
    static const char *const words[] = {"nvalid",    "not permitted", "not available",   "denied",        "violates",
                                        "satisfied", "exceed",        "More processors", "not supported", "nrecognized option"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(text, words[i]))
            return !strstr(text, "uthenticat"); /* "Invalid authentication credential": munge, here or there */
    return false;
}

bool holder_parse(const char *text, struct holder *ret)
{
    struct holder h = {0};
    if (sscanf(text, "%255s %31s %d", h.node, h.job, &h.restarts) != 3)
        return false;
    *ret = h;
    return true;
}

static bool is_over(const struct job_facts *f)
{
    return f->left || (f->answered && (!f->listed || slurm_state_is_over(f->state)));
}

/* It goes on, or is to begin, a second time. */
static bool is_again(const struct job_facts *f)
{
    return f->listed && f->held && f->restarts > f->holder_restarts && !slurm_state_is_over(f->state);
}

static enum job_act next_with_result(const struct job_facts *f)
{
    if (!f->foreign_stop)
        return JOB_FINISH;
    if (f->answered && is_again(f))
        return JOB_CANCEL;
    /* Why it was stopped, Slurm knows; of a pilot that goes on, it has nothing to say. */
    bool told = f->answered && (!f->listed || slurm_state_is_over(f->state));
    return told || (f->left && f->settled) ? JOB_FINISH : JOB_NOTHING;
}

static enum job_act next_before(const struct job_facts *f)
{
    if (f->stop)
        return JOB_FENCE;
    if (!f->submitted)
        return JOB_SUBMIT;
    return is_over(f) ? JOB_FENCE : JOB_NOTHING;
}

/* Nothing of the tenant's is started before the holder's name is written. So where Slurm heard from the node that the job is over,
 * it is; but a node that is not heard may still go on from here, and so may a
 * runner of a pilot that lives. */
static bool has_not_begun(const struct job_facts *f)
{
    return !f->held && f->listed && slurm_state_is_over(f->state) && f->state != SLURM_NODE_FAIL;
}

enum job_act job_next(const struct job_facts *f)
{
    if (f->result)
        return next_with_result(f);
    if (!f->fenced)
        return next_before(f);
    if (f->gone)
        return JOB_LOST;
    if (!f->answered && !f->left)
        return f->held ? JOB_RUNS : JOB_NOTHING;
    if (is_over(f))
        return f->node_is_off || has_not_begun(f) ? JOB_LOST : JOB_PROBE;
    if (is_again(f))
        return JOB_CANCEL;
    if (!f->held)
        return JOB_NOTHING;
    return f->stop && f->state == SLURM_RUNNING ? JOB_SIGNAL : JOB_RUNS;
}

void job_blame(const struct job_facts *f, const struct run_spec *spec, struct run_result *res)
{
    if (f->stop)
        return;
    if (f->listed && f->held && f->restarts > f->holder_restarts) {
        res->cause = RUN_CAUSE_requeued;
        return;
    }
    switch (f->listed ? f->state : SLURM_FAILED) {
    case SLURM_CANCELLED:
        res->cause = RUN_CAUSE_cancelled;
        break;
    case SLURM_NODE_FAIL:
        res->cause = RUN_CAUSE_node_lost;
        break;
    case SLURM_PREEMPTED:
        res->cause = RUN_CAUSE_preempted;
        break;
    case SLURM_TIMEOUT:
        if (spec->wall_s >= 0) {
            res->cause = RUN_CAUSE_time_limit; /* the run's own comes first, so it was not the app that took too long */
        } else {
            res->outcome = RUN_timeout;
            res->limit = RUN_LIMIT_wall_s;
        }
        break;
    case SLURM_OUT_OF_MEMORY:
        if (f->shared) /* of which run, nobody knows */
            break;
        /* More than the job was given, which is more than its cgroup. */
        res->outcome = RUN_oom;
        res->limit = RUN_LIMIT_memory_bytes;
        break;
    default: /* it ended by itself, or Slurm has forgotten why */
        if (f->node_is_off)
            res->cause = RUN_CAUSE_node_lost;
        else if (f->foreign_stop)
            res->cause = RUN_CAUSE_cancelled;
        break;
    }
}
