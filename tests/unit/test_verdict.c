/* The table of docs/files.md, row by row. */
#include "check.h"
#include "programs/batchmgr/verdict.h"

static struct verdict_input base(enum run_outcome o)
{
    return (struct verdict_input){.outcome = o,
                                  .max_attempts = 3,
                                  .backoff_ms = 1000,
                                  .max_backoff_ms = 60000,
                                  .give_up_s = 100,
                                  .now_wall_ms = 1000000,
                                  .jitter = 1.0};
}

static void ok_is_ingested(void **state)
{
    struct verdict_input in = base(RUN_ok);
    (void)state;
    struct verdict v = verdict_of(&in);
    assert_int_equal(v.state, FILE_ingested);
    assert_int_equal(v.attempts, 1);
    in.stop = RUN_STOP_person; /* it was quicker than the stop */
    assert_int_equal(verdict_of(&in).state, FILE_ingested);
}

static void contradiction_fails(void **state)
{
    struct verdict_input in = base(RUN_ok);
    (void)state;
    in.contradicts = true;
    struct verdict v = verdict_of(&in);
    assert_int_equal(v.state, FILE_waiting);
    assert_int_equal(v.attempts, 1);
    assert_string_equal(v.reason, "result_contradicts");
    in.attempts = 2;
    assert_int_equal(verdict_of(&in).state, FILE_quarantined);
}

static void data_error_is_quarantined_at_once(void **state)
{
    struct verdict_input in = base(RUN_data_error);
    (void)state;
    assert_int_equal(verdict_of(&in).state, FILE_quarantined);
    assert_string_equal(verdict_of(&in).reason, "data_error");
    in.reason = "max_rejects";
    assert_string_equal(verdict_of(&in).reason, "max_rejects");
}

static void data_error_of_a_group_says_nothing_of_each(void **state)
{
    struct verdict_input in = base(RUN_data_error);
    in.group = true;
    in.attempts = 1;
    struct verdict v = verdict_of(&in);
    (void)state;
    assert_int_equal(v.state, FILE_waiting);
    assert_string_equal(v.reason, "group");
    assert_int_equal(v.attempts, 1);
    assert_int_equal(v.delay_ms, 0);
    in.outcome = RUN_failed; /* but a failure is one of each */
    assert_int_equal(verdict_of(&in).attempts, 2);
}

static void failures_use_attempts(void **state)
{
    static const enum run_outcome outcomes[] = {RUN_failed, RUN_timeout, RUN_oom, RUN_killed, RUN_limit};
    (void)state;
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++) {
        struct verdict_input in = base(outcomes[i]);
        for (in.attempts = 0; in.attempts < 3; in.attempts++) {
            struct verdict v = verdict_of(&in);
            assert_int_equal(v.attempts, in.attempts + 1);
            assert_int_equal(v.state, in.attempts < 2 ? FILE_waiting : FILE_quarantined);
            assert_string_equal(v.reason, run_outcome_name(outcomes[i]));
        }
    }
}

static void backoff_doubles_is_capped_and_jittered(void **state)
{
    struct verdict_input in = base(RUN_failed);
    int64_t expected = 1000;
    (void)state;
    in.max_attempts = 1000;
    for (in.attempts = 0; in.attempts < 100; in.attempts++) {
        assert_int_equal(verdict_of(&in).delay_ms, expected);
        expected = expected * 2 > 60000 ? 60000 : expected * 2;
    }
    in.attempts = 0;
    in.jitter = 0;
    assert_int_equal(verdict_of(&in).delay_ms, 500);
}

static void temporary_failures_cost_nothing_until_given_up(void **state)
{
    struct verdict_input in = base(RUN_temp_fail);
    (void)state;
    struct verdict v = verdict_of(&in);
    assert_int_equal(v.state, FILE_waiting);
    assert_int_equal(v.attempts, 0);
    assert_int_equal(v.first_temp_wall_ms, 1000000);
    in.first_temp_wall_ms = 1000000 - 99999;
    assert_int_equal(verdict_of(&in).state, FILE_waiting);
    in.first_temp_wall_ms = 1000000 - 100000;
    v = verdict_of(&in);
    assert_int_equal(v.state, FILE_quarantined);
    assert_string_equal(v.reason, "give_up_s");
    in.database_down = true; /* then it is not the app's fault */
    assert_int_equal(verdict_of(&in).state, FILE_waiting);
}

static void exec_error_parks(void **state)
{
    struct verdict_input in = base(RUN_exec_error);
    (void)state;
    struct verdict v = verdict_of(&in);
    assert_true(v.park);
    assert_int_equal(v.state, FILE_waiting);
    assert_int_equal(v.attempts, 0);
}

static void what_the_host_did_not_give_is_never_charged(void **state)
{
    struct verdict_input in = base(RUN_lost);
    (void)state;
    in.not_started = true;
    in.losses = 10;
    in.attempts = 2;
    struct verdict v = verdict_of(&in);
    assert_int_equal(v.state, FILE_waiting);
    assert_string_equal(v.reason, "not_started");
    assert_int_equal(v.attempts, 2);
    assert_int_equal(v.delay_ms, 1000);
    assert_int_equal(v.first_temp_wall_ms, 1000000);
    in.first_temp_wall_ms = 1;
    v = verdict_of(&in);
    assert_int_equal(v.state, FILE_waiting);
    assert_int_equal(v.delay_ms, 60000);
}

static void what_ended_a_job_of_a_cluster_is_never_charged(void **state)
{
    (void)state;
    for (int cause = RUN_CAUSE_none + 1; cause < RUN_N_CAUSES; cause++)
        for (int outcome = 0; outcome < 2; outcome++) {
            struct verdict_input in = base(outcome ? RUN_lost : RUN_killed);
            in.cause = (enum run_cause)cause;
            in.losses = 10;
            in.attempts = 2;
            struct verdict v = verdict_of(&in);
            assert_int_equal(v.state, FILE_waiting);
            assert_string_equal(v.reason, run_cause_name(in.cause));
            assert_int_equal(v.attempts, 2);
            assert_int_equal(v.losses, 10);
            assert_int_equal(v.delay_ms, 1000);
            in.first_temp_wall_ms = 1;
            assert_int_equal(verdict_of(&in).delay_ms, 60000);
            in.stop = RUN_STOP_person;
            assert_string_equal(verdict_of(&in).reason, "stopped");
            in.outcome = RUN_ok; /* it was quicker */
            assert_int_equal(verdict_of(&in).state, FILE_ingested);
        }
}

static void lost_runs_are_free_three_times(void **state)
{
    struct verdict_input in = base(RUN_lost);
    (void)state;
    for (in.losses = 0; in.losses < 3; in.losses++) {
        struct verdict v = verdict_of(&in);
        assert_int_equal(v.attempts, 0);
        assert_int_equal(v.losses, in.losses + 1);
        assert_int_equal(v.state, FILE_waiting);
    }
    assert_int_equal(verdict_of(&in).attempts, 1);
}

static void stops(void **state)
{
    struct verdict_input in = base(RUN_killed);
    (void)state;
    in.stop = RUN_STOP_person;
    assert_int_equal(verdict_of(&in).state, FILE_quarantined);
    assert_string_equal(verdict_of(&in).reason, "stopped");
    in.stop = RUN_STOP_drain;
    struct verdict v = verdict_of(&in);
    assert_int_equal(v.state, FILE_queued);
    assert_int_equal(v.attempts, 0);
}

static void an_outage_costs_no_attempt(void **state)
{
    struct verdict_input in = base(RUN_failed);
    (void)state;
    in.attempts = 2;
    in.database_down = true;
    struct verdict v = verdict_of(&in);
    assert_int_equal(v.state, FILE_waiting);
    assert_int_equal(v.attempts, 2);
    assert_string_equal(v.reason, "database_down");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ok_is_ingested),
        cmocka_unit_test(contradiction_fails),
        cmocka_unit_test(data_error_is_quarantined_at_once),
        cmocka_unit_test(data_error_of_a_group_says_nothing_of_each),
        cmocka_unit_test(failures_use_attempts),
        cmocka_unit_test(backoff_doubles_is_capped_and_jittered),
        cmocka_unit_test(temporary_failures_cost_nothing_until_given_up),
        cmocka_unit_test(exec_error_parks),
        cmocka_unit_test(what_the_host_did_not_give_is_never_charged),
        cmocka_unit_test(what_ended_a_job_of_a_cluster_is_never_charged),
        cmocka_unit_test(lost_runs_are_free_three_times),
        cmocka_unit_test(stops),
        cmocka_unit_test(an_outage_costs_no_attempt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
