/* What follows from what disk and Slurm say of a job. */
#include "check.h"
#include "programs/slurm/facts.h"

static const enum slurm_state all[] = {SLURM_PENDING,   SLURM_RUNNING, SLURM_LIVE,      SLURM_COMPLETED, SLURM_FAILED,
                                       SLURM_CANCELLED, SLURM_TIMEOUT, SLURM_NODE_FAIL, SLURM_PREEMPTED, SLURM_OUT_OF_MEMORY};
enum { N_STATES = sizeof all / sizeof *all };

static struct job_facts listed(enum slurm_state s)
{
    return (struct job_facts){.submitted = true, .answered = true, .listed = true, .state = s};
}

static struct job_facts held(enum slurm_state s)
{
    struct job_facts f = listed(s);
    f.fenced = f.held = true;
    return f;
}

static void words(void **state)
{
    (void)state;
    assert_int_equal(slurm_state_of("CANCELLED by 0"), SLURM_CANCELLED);
    assert_int_equal(slurm_state_of("NODE_FAIL"), SLURM_NODE_FAIL);
    assert_int_equal(slurm_state_of("COMPLETING"), SLURM_LIVE);
    assert_int_equal(slurm_state_of("COMPLETED"), SLURM_COMPLETED);
    assert_int_equal(slurm_state_of("of a later version"), SLURM_LIVE); /* nothing is concluded from it */
    assert_int_equal(slurm_state_of(""), SLURM_LIVE);
    assert_int_equal(slurm_state_of("REQUEUED"), SLURM_PENDING);
}

static void lines(void **state)
{
    struct slurm_line l;
    char good[] = "12|simbdp-x|RUNNING|None|n1|2|", no_id[] = "JOBID|NAME|STATE|REASON|NODELIST|RESTART_COUNT|",
         cut[] = "12|simbdp", error[] = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
         empty[] = "7||PENDING|(Resources)||0|";
    (void)state;
    assert_true(slurm_line_parse(good, &l));
    assert_string_equal(l.id, "12");
    assert_string_equal(l.word, "RUNNING");
    assert_string_equal(l.node, "n1");
    assert_int_equal(l.restarts, 2);
    assert_false(slurm_line_parse(no_id, &l));
    assert_false(slurm_line_parse(cut, &l));
    assert_false(slurm_line_parse(error, &l));
    assert_true(slurm_line_parse(empty, &l));
    assert_string_equal(l.node, "");
}

static void what_accounting_says(void **state)
{
    char good[] = "other|FAILED\nsimbdp-x|CANCELLED by 0\n", runs[] = "simbdp-x|RUNNING\n", longer[] = "simbdp-xy|FAILED\n",
         none[] = "";
    enum slurm_state s = SLURM_LIVE;
    const char *word = NULL;
    (void)state;
    assert_true(slurm_recall(good, "simbdp-x", &s, &word));
    assert_int_equal(s, SLURM_CANCELLED);
    assert_string_equal(word, "CANCELLED by 0");
    assert_false(slurm_recall(runs, "simbdp-x", &s, &word));
    assert_false(slurm_recall(longer, "simbdp-x", &s, &word));
    assert_false(slurm_recall(none, "simbdp-x", &s, &word));
}

static void refusals(void **state)
{
    (void)state;
    assert_true(slurm_is_refusal("sbatch: error: Batch job submission failed: Invalid partition name specified"));
    assert_true(slurm_is_refusal("sbatch: error: Batch job submission failed: Requested node configuration is not available"));
    assert_false(
        slurm_is_refusal("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"));
    assert_false(slurm_is_refusal("sbatch: error: Batch job submission failed: Invalid authentication credential"));
    assert_false(slurm_is_refusal("sbatch: error: Unexpected missing socket error"));
    assert_false(slurm_is_refusal(""));
}

static void holders(void **state)
{
    struct holder h = {0};
    (void)state;
    assert_true(holder_parse("n1 12 3\n", &h));
    assert_string_equal(h.node, "n1");
    assert_string_equal(h.job, "12");
    assert_int_equal(h.restarts, 3);
    assert_false(holder_parse("n1 12", &h));
    assert_false(holder_parse("", &h));
}

static void a_job_begins_once(void **state)
{
    struct job_facts f = {0};
    (void)state;
    assert_int_equal(job_next(&f), JOB_SUBMIT);
    f.submitted = true; /* sbatch goes, or a launcher before this one may have called it */
    assert_int_equal(job_next(&f), JOB_NOTHING);
    f.answered = true; /* and Slurm knows of none */
    assert_int_equal(job_next(&f), JOB_FENCE);
    f = listed(SLURM_PENDING);
    assert_int_equal(job_next(&f), JOB_NOTHING);
    f = listed(SLURM_CANCELLED);
    assert_int_equal(job_next(&f), JOB_FENCE);
    f = (struct job_facts){.stop = true, .submitted = true}; /* while Slurm does not answer */
    assert_int_equal(job_next(&f), JOB_FENCE);
}

/* The safeguard of tests/model/Runs.tla: no word of Slurm's alone makes a run lost whose app may have begun. */
static void nothing_is_lost_without_proof(void **state)
{
    (void)state;
    for (int i = 0; i < N_STATES; i++)
        for (int restarts = 0; restarts < 2; restarts++)
            for (int stop = 0; stop < 2; stop++)
                for (int is_listed = 0; is_listed < 2; is_listed++) {
                    struct job_facts f = held(all[i]);
                    f.restarts = restarts;
                    f.stop = stop;
                    f.listed = is_listed;
                    enum job_act a = job_next(&f);
                    assert_true(a != JOB_LOST && a != JOB_FENCE && a != JOB_FINISH && a != JOB_SUBMIT);
                    if (!is_listed || slurm_state_is_over(all[i]))
                        assert_int_equal(a, JOB_PROBE);
                    f.gone = true;
                    assert_int_equal(job_next(&f), JOB_LOST);
                    f.result = true; /* the runner's own proof */
                    assert_int_equal(job_next(&f), JOB_FINISH);
                }
    struct job_facts f = held(SLURM_NODE_FAIL);
    f.node_is_off = true;
    assert_int_equal(job_next(&f), JOB_LOST);
    f = held(SLURM_RUNNING); /* a person's word does not count against Slurm's, who hears of the node */
    f.node_is_off = true;
    assert_int_equal(job_next(&f), JOB_RUNS);
}

static void between_the_fence_and_its_name(void **state)
{
    struct job_facts f = listed(SLURM_RUNNING);
    (void)state;
    f.fenced = true;
    assert_int_equal(job_next(&f), JOB_NOTHING);
    f.state = SLURM_FAILED; /* its node says that it ended, and nothing of the tenant's was started */
    assert_int_equal(job_next(&f), JOB_LOST);
    f.state = SLURM_NODE_FAIL; /* its node says nothing */
    assert_int_equal(job_next(&f), JOB_PROBE);
    f.listed = false;
    assert_int_equal(job_next(&f), JOB_PROBE);
}

static struct run_result blamed(const struct job_facts *f, int64_t wall_s)
{
    struct run_spec spec = {.wall_s = wall_s};
    struct run_result res = {.outcome = RUN_lost};
    job_blame(f, &spec, &res);
    return res;
}

/* What a pilot that goes on says of a step that it has no more: no proof that the app does not run. */
static void a_pilots_word(void **state)
{
    struct job_facts f = {0};
    (void)state;
    f.submitted = f.left = true;
    assert_int_equal(job_next(&f), JOB_FENCE); /* it cannot begin any more then, whoever was wrong */
    f = listed(SLURM_RUNNING);
    f.fenced = f.left = true; /* its runner may be about to begin */
    assert_int_equal(job_next(&f), JOB_PROBE);
    f = held(SLURM_RUNNING);
    f.left = true;
    assert_int_equal(job_next(&f), JOB_PROBE);
    f.gone = true;
    assert_int_equal(job_next(&f), JOB_LOST);
    f.gone = false;
    f.result = f.foreign_stop = true; /* SIGTERM: when Slurm ended the pilot, it will say so */
    assert_int_equal(job_next(&f), JOB_NOTHING);
    f.settled = true;
    assert_int_equal(job_next(&f), JOB_FINISH);
    f.settled = false;
    f.state = SLURM_CANCELLED;
    assert_int_equal(job_next(&f), JOB_FINISH);
    f = held(SLURM_OUT_OF_MEMORY);
    f.shared = true;
    assert_int_equal(blamed(&f, 60).outcome, RUN_lost);
}

static void one_that_comes_again_is_cancelled(void **state)
{
    (void)state;
    for (int i = 0; i < N_STATES; i++) {
        struct job_facts f = held(all[i]);
        f.restarts = 1;
        if (!slurm_state_is_over(all[i]))
            assert_int_equal(job_next(&f), JOB_CANCEL);
        f.holder_restarts = 1; /* it came again before anybody had the fence */
        if (all[i] == SLURM_RUNNING)
            assert_int_equal(job_next(&f), JOB_RUNS);
    }
}

static void stops(void **state)
{
    struct job_facts f = held(SLURM_RUNNING);
    (void)state;
    f.stop = true;
    assert_int_equal(job_next(&f), JOB_SIGNAL);
    f.answered = false; /* Slurm does not answer: later */
    assert_int_equal(job_next(&f), JOB_RUNS);
    f = held(SLURM_LIVE);
    f.result = f.foreign_stop = true; /* somebody else's SIGTERM; why, Slurm says when it is over */
    assert_int_equal(job_next(&f), JOB_NOTHING);
    f.state = SLURM_PREEMPTED;
    assert_int_equal(job_next(&f), JOB_FINISH);
    f.foreign_stop = false;
    f.answered = false; /* the runner's own word needs nobody's */
    assert_int_equal(job_next(&f), JOB_FINISH);
}

static void whose_fault_it_is(void **state)
{
    static const struct {
        enum slurm_state s;
        enum run_cause cause;
        enum run_outcome outcome;
    } rows[] = {{SLURM_CANCELLED, RUN_CAUSE_cancelled, RUN_lost}, {SLURM_NODE_FAIL, RUN_CAUSE_node_lost, RUN_lost},
                {SLURM_PREEMPTED, RUN_CAUSE_preempted, RUN_lost}, {SLURM_TIMEOUT, RUN_CAUSE_time_limit, RUN_lost},
                {SLURM_OUT_OF_MEMORY, RUN_CAUSE_none, RUN_oom},   {SLURM_FAILED, RUN_CAUSE_none, RUN_lost},
                {SLURM_COMPLETED, RUN_CAUSE_none, RUN_lost}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct job_facts f = held(rows[i].s);
        struct run_result res = blamed(&f, 60);
        assert_int_equal(res.cause, rows[i].cause);
        assert_int_equal(res.outcome, rows[i].outcome);
        f.restarts = 1;
        assert_int_equal(blamed(&f, 60).cause, RUN_CAUSE_requeued);
        f.stop = true;
        assert_int_equal(blamed(&f, 60).cause, RUN_CAUSE_none);
    }
    struct job_facts f = held(SLURM_TIMEOUT);
    assert_int_equal(blamed(&f, -1).outcome, RUN_timeout); /* the job's limit is the only one that it had */
    f.listed = false;
    f.foreign_stop = true; /* Slurm has forgotten why */
    assert_int_equal(blamed(&f, 60).cause, RUN_CAUSE_cancelled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(lines),
        cmocka_unit_test(what_accounting_says),
        cmocka_unit_test(refusals),
        cmocka_unit_test(holders),
        cmocka_unit_test(a_job_begins_once),
        cmocka_unit_test(nothing_is_lost_without_proof),
        cmocka_unit_test(between_the_fence_and_its_name),
        cmocka_unit_test(a_pilots_word),
        cmocka_unit_test(one_that_comes_again_is_cancelled),
        cmocka_unit_test(stops),
        cmocka_unit_test(whose_fault_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
