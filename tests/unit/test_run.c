/* Spec and result round trips, outcome from evidence, capture with its cap. */
#include "base/fd.h"
#include "base/mem.h"
#include "check.h"
#include "programs/runner/capture.h"
#include "programs/runner/exit_status.h"
#include "run/spec.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static struct run_spec make_spec(void)
{
    struct run_spec s = {.run_id = xstrdup("r1"),
                         .step = RUN_STEP_app,
                         .tenant = xstrdup("t"),
                         .app = xstrdup("a"),
                         .home = xstrdup("/h"),
                         .dir = xstrdup("/h/runs/r1"),
                         .runtime = xstrdup("/run/x"),
                         .claim = xstrdup("r1"),
                         .tag = xstrdup("ab"),
                         .exec = xstrdup("/bin/true"),
                         .stdin_path = xstrdup(""),
                         .output = RUN_OUTPUT_none,
                         .builtin = true,
                         .uid = -1,
                         .gid = 5,
                         .wall_s = 1,
                         .grace_s = 2,
                         .output_bytes = 3,
                         .cpu_s = -1,
                         .as_bytes = -1,
                         .nofile = 64,
                         .nproc = -1,
                         .fsize_bytes = -1,
                         .core_bytes = 0,
                         .stack_bytes = -1,
                         .cg_cpu_pct = -1,
                         .cg_memory_bytes = -1,
                         .cg_pids = -1};
    s.args.v = xcalloc(1, sizeof *s.args.v);
    s.args.v[s.args.n++] = xstrdup("--x\n\"");
    run_pairs_add(&s.env, "A", "b=c");
    run_pairs_add(&s.files, "input.jsonl", "{}\n");
    return s;
}

static void spec_round_trip(void **state)
{
    struct run_spec s = make_spec(), back;
    AUTO_BUF struct buf one = {0}, two = {0};
    struct err e = {0};
    (void)state;
    run_spec_write(&s, &one);
    assert_int_equal(run_spec_parse(one.p, one.n, &back, &e), 0);
    run_spec_write(&back, &two);
    assert_string_equal(one.p, two.p);
    assert_string_equal(back.args.v[0], "--x\n\"");
    run_spec_free(&s);
    run_spec_free(&back);
}

static void a_field_that_differs_is_named(void **state)
{
    struct run_spec a = make_spec(), b = make_spec();
    (void)state;
    assert_null(run_spec_differs(&a, &b));
    b.core_bytes++;
    assert_string_equal(run_spec_differs(&a, &b), "core_bytes");
    b.core_bytes--;
    b.full_isolation = !a.full_isolation;
    assert_string_equal(run_spec_differs(&a, &b), "full_isolation");
    b.full_isolation = a.full_isolation;
    xstr_set(&b.image, "");
    assert_null(run_spec_differs(&a, &b));
    xstr_set(&b.image, "/x");
    assert_string_equal(run_spec_differs(&a, &b), "image");
    xstr_set(&b.exec, "/x");
    assert_string_equal(run_spec_differs(&b, &a), "exec");
    run_spec_free(&a);
    run_spec_free(&b);
}

static void bad_specs_are_refused(void **state)
{
    struct run_spec s = make_spec(), back;
    AUTO_BUF struct buf good = {0};
    struct err e = {0};
    (void)state;
    run_spec_write(&s, &good);
    run_spec_free(&s);
    static const char *const replace[][2] = {{"\"v\":1", "\"v\":2"},
                                             {"\"v\":1", "\"w\":1"},
                                             {"\"dir\":\"/h", "\"dir\":\"h"},
                                             {"\"uid\":-1", "\"uid\":-7"},
                                             {"\"step\":\"app\"", "\"step\":\"appx\""},
                                             {"\"step\":\"app\"", "\"step\":\"\""},
                                             {"\"output\":\"none\"", "\"output\":\"files\""},
                                             {"input.jsonl", "../jsonl"},
                                             {"\"args\":[\"", "\"args\":[1,\""},
                                             {"\"claim\":\"r1", "\"claim\":\"r/1"}};
    for (size_t i = 0; i < sizeof replace / sizeof *replace; i++) {
        char *at = strstr(good.p, replace[i][0]);
        assert_non_null(at);
        AUTO_FREE char *bad = xasprintf("%.*s%s%s", (int)(at - good.p), good.p, replace[i][1], at + strlen(replace[i][0]));
        assert_true(run_spec_parse(bad, strlen(bad), &back, &e) < 0);
    }
    for (size_t n = 0; n < good.n; n += 7)
        assert_true(run_spec_parse(good.p, n, &back, &e) < 0);
}

/* What is on disk, and in ledgers, has these texts. */
static void kinds_have_their_texts(void **state)
{
    enum run_step step = RUN_STEP_check;
    enum run_output output = RUN_OUTPUT_none;
    enum run_limit limit = RUN_LIMIT_pids;
    enum run_outcome outcome = RUN_ok;
    (void)state;
    assert_string_equal(run_step_name(RUN_STEP_load), "load");
    assert_string_equal(run_output_name(RUN_OUTPUT_stdout), "stdout");
    assert_int_equal(run_output_of("stdout", &output), 0);
    assert_int_equal(output, RUN_OUTPUT_stdout);
    for (int i = 0; i < RUN_N_LIMITS; i++) {
        assert_int_equal(run_limit_of(run_limit_name((enum run_limit)i), &limit), 0);
        assert_int_equal(limit, i);
    }
    assert_null(run_limit_name(RUN_LIMIT_none));
    assert_int_equal(run_step_of("x", &step), ERR_FORMAT);
    assert_int_equal(run_step_of(NULL, &step), ERR_FORMAT);
    assert_int_equal(run_outcome_of("", &outcome), ERR_FORMAT);
    assert_int_equal(run_limit_of("none", &limit), ERR_FORMAT);
    assert_true(step == RUN_STEP_check && outcome == RUN_ok);
}

static void bad_results_are_refused(void **state)
{
    static const char *const bad[] = {"{\"v\":1,\"run_id\":\"r\",\"outcome\":\"well\"}", "{\"v\":1,\"outcome\":\"ok\"}",
                                      "{\"v\":1,\"run_id\":\"r\",\"outcome\":\"ok\",\"step\":\"run\"}",
                                      "{\"v\":1,\"run_id\":\"r\",\"outcome\":\"ok\",\"limit\":\"luck\"}"};
    struct run_result r;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(run_result_parse(bad[i], strlen(bad[i]), &r, NULL), ERR_FORMAT);
}

static void result_round_trip(void **state)
{
    struct run_result r = {.run_id = xstrdup("r1"),
                           .step = RUN_STEP_load,
                           .outcome = RUN_limit,
                           .exit_code = -1,
                           .signal = 24,
                           .limit = RUN_LIMIT_cpu_s,
                           .forced = true,
                           .started_wall_ms = 5,
                           .ended_wall_ms = 6,
                           .wall_s = 0.25,
                           .app_result = xstrdup("{\"x\":\"\\n\"}")};
    struct run_result back;
    AUTO_BUF struct buf one = {0}, two = {0};
    struct err e = {0};
    (void)state;
    run_result_write(&r, &one);
    assert_int_equal(run_result_parse(one.p, one.n, &back, &e), 0);
    run_result_write(&back, &two);
    assert_string_equal(one.p, two.p);
    run_result_free(&r);
    run_result_free(&back);
    assert_true(run_result_parse("{\"v\":9}", 7, &back, &e) == ERR_VERSION);
    assert_true(run_result_parse("{\"v\":1,\"run_id\":\"x\",\"outcome\":\"great\"}", 39, &back, &e) == ERR_FORMAT);
}

static void app_results(void **state)
{
    struct app_result a;
    struct err e = {0};
    static const char *const bad[] = {"",
                                      "[]x",
                                      "{\"rows_loaded\":-1}",
                                      "{\"rows_loaded\":\"3\"}",
                                      "{\"bytes\":1e300}",
                                      "{\"rejects_file\":\"../x\"}",
                                      "{\"rejects_file\":\".x\"}",
                                      "{\"rows_parsed\":{}}"};
    (void)state;
    static const char good[] = "{\"rows_parsed\":3,\"rows_loaded\":2.0,\"rejects_file\":\"r.jsonl\",\"other\":[1]}";
    assert_int_equal(app_result_parse(good, strlen(good), &a, &e), 0);
    assert_int_equal(a.rows_parsed, 3);
    assert_int_equal(a.rows_loaded, 2);
    assert_int_equal(a.rows_rejected, -1);
    assert_string_equal(a.rejects_file, "r.jsonl");
    app_result_free(&a);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_true(app_result_parse(bad[i], strlen(bad[i]), &a, &e) < 0);
        assert_true(app_result_parse(bad[i], strlen(bad[i]), &a, NULL) < 0);
    }
}

static int exited(int code)
{
    return code << 8;
}

static void outcomes(void **state)
{
    const struct {
        struct evidence v;
        enum run_outcome o;
        enum run_limit limit;
    } cases[] = {
        {{.status = exited(0)}, RUN_ok, RUN_LIMIT_none},
        {{.status = exited(65)}, RUN_data_error, RUN_LIMIT_none},
        {{.status = exited(75)}, RUN_temp_fail, RUN_LIMIT_none},
        {{.status = exited(1)}, RUN_failed, RUN_LIMIT_none},
        {{.status = exited(137)}, RUN_failed, RUN_LIMIT_none}, /* not out of memory: the counter says so */
        {{.status = exited(137), .oom_kills = 1}, RUN_oom, RUN_LIMIT_memory_bytes},
        {{.status = exited(0), .oom_kills = 1}, RUN_oom, RUN_LIMIT_memory_bytes},
        {{.status = exited(65), .oom_kills = 1}, RUN_oom, RUN_LIMIT_memory_bytes},
        {{.status = exited(0), .oom_kills = 1, .host_oom = true}, RUN_lost, RUN_LIMIT_none},
        {{.status = SIGKILL, .oom_kills = 1, .host_oom = true}, RUN_lost, RUN_LIMIT_none},
        {{.status = exited(1), .host_oom = true}, RUN_failed, RUN_LIMIT_none},
        {{.status = SIGKILL, .oom_kills = 1}, RUN_oom, RUN_LIMIT_memory_bytes},
        {{.status = SIGKILL, .cpu_limit_s = -1}, RUN_killed, RUN_LIMIT_none},
        {{.status = SIGKILL, .cpu_limit_s = 2, .cpu_s = 2.1}, RUN_limit, RUN_LIMIT_cpu_s},
        {{.status = SIGXCPU}, RUN_limit, RUN_LIMIT_cpu_s},
        {{.status = SIGXFSZ}, RUN_limit, RUN_LIMIT_fsize_bytes},
        {{.status = SIGSEGV, .oom_kills = 1}, RUN_killed, RUN_LIMIT_none},
        {{.status = exited(1), .pids_refused = 3}, RUN_limit, RUN_LIMIT_pids},
        {{.status = exited(0), .pids_refused = 3}, RUN_ok, RUN_LIMIT_none},
        {{.status = SIGKILL, .wall_exceeded = true}, RUN_timeout, RUN_LIMIT_wall_s},
        {{.status = exited(0), .wall_exceeded = true}, RUN_timeout, RUN_LIMIT_wall_s},
        {{.status = exited(0), .output_exceeded = true}, RUN_limit, RUN_LIMIT_output_bytes},
        {{.status = exited(0), .scratch = RUN_LIMIT_scratch_bytes}, RUN_limit, RUN_LIMIT_scratch_bytes},
        {{.status = SIGTERM, .stopped = true}, RUN_killed, RUN_LIMIT_none},
        {{.status = exited(0), .log_cut = true}, RUN_ok, RUN_LIMIT_output_bytes},
        {{.status = exited(1), .log_cut = true}, RUN_failed, RUN_LIMIT_none},
        {{.status = exited(0), .full_file = true}, RUN_ok, RUN_LIMIT_fsize_bytes},
        {{.status = exited(0), .full_file = true, .log_cut = true}, RUN_ok, RUN_LIMIT_output_bytes},
        {{.status = exited(1), .full_file = true}, RUN_failed, RUN_LIMIT_fsize_bytes},
        {{.status = exited(153)}, RUN_limit, RUN_LIMIT_fsize_bytes}, /* a child of the shell that it is */
        {{.status = exited(152)}, RUN_limit, RUN_LIMIT_cpu_s},
        {{.status = SIGKILL, .wall_exceeded = true, .pids_refused = 1}, RUN_timeout, RUN_LIMIT_pids},
        {{.exec_errno = 2}, RUN_exec_error, RUN_LIMIT_none},
        {{.exec_errno = 28, .not_apps = true}, RUN_lost, RUN_LIMIT_none},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct outcome o = exit_status_meaning(&cases[i].v);
        assert_int_equal(o.outcome, cases[i].o);
        assert_int_equal(o.limit, cases[i].limit);
    }
}

static void check_tail(const char *wanted, const char *a, const char *b)
{
    struct tail t = {0};
    tail_add(&t, a, strlen(a));
    tail_add(&t, b, strlen(b));
    char *line = tail_line(&t);
    if (wanted)
        assert_string_equal(line, wanted);
    else
        assert_null(line);
    free(line);
}

static void the_last_line_is_found(void **state)
{
    char big[2001], many[1001], wanted[300];
    (void)state;
    check_tail(NULL, "", "");
    check_tail(NULL, "\n", " \r\n");
    check_tail("KeyError: 'price'", "Traceback:\n  File\nKeyErr", "or: 'price'\n\n");
    check_tail("no end", "x\n  no ", "end");
    check_tail("100 %", "10 %\r50 %\r", "100 %\r\n");
    check_tail("?[31mred?", "x\n\x1b[31mre", "d\xff\n");
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    snprintf(wanted, sizeof wanted, "…%.240s…", big);
    check_tail(wanted, big, "");
    check_tail("end", big, "\nend\n");
    memset(big, 'y', 100);
    big[99] = '\n';
    snprintf(wanted, sizeof wanted, "%.240s…", big + 100);
    big[400] = 0;
    check_tail(wanted, big, "");
    for (size_t i = 0; i + 1 < sizeof many; i += 2) /* two bytes each, cut within one at both ends */
        memcpy(many + i, "ä", 2);
    many[1000] = 0;
    struct tail t = {0};
    tail_add(&t, "a", 1);
    tail_add(&t, many, 999);
    char *line = tail_line(&t);
    assert_null(strchr(line, '?'));
    assert_true(!strncmp(line, "…ä", 5) && !strcmp(line + strlen(line) - 5, "ä…"));
    free(line);
}

static void capture_keeps_the_newest(void **state)
{
    char dir[] = "/tmp/simbdp-unit-XXXXXX";
    struct capture c;
    struct stat st;
    (void)state;
    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(capture_open(&c, fd, "log", 100, true, 0600), 0);
    for (int i = 0; i < 1000; i++)
        capture_write(&c, "0123456789", 10);
    capture_close(&c);
    assert_int_equal(c.total, 10000);
    assert_int_equal(fstatat(fd, "log", &st, 0), 0);
    int64_t kept = st.st_size;
    assert_int_equal(fstatat(fd, "log.1", &st, 0), 0);
    kept += st.st_size;
    assert_true(kept <= 100 && kept >= 50);
    assert_int_equal(c.dropped, 10000 - kept);
    assert_int_equal(capture_open(&c, fd, "out", 25, false, 0600), 0);
    for (int i = 0; i < 3; i++)
        capture_write(&c, "0123456789", 10);
    capture_close(&c);
    assert_true(c.exceeded);
    assert_int_equal(c.written, 25);
    assert_int_equal(c.dropped, 5);
    close(fd);
    assert_int_equal(fd_remove_tree(AT_FDCWD, dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_have_their_texts),
        cmocka_unit_test(bad_results_are_refused),
        cmocka_unit_test(spec_round_trip),
        cmocka_unit_test(a_field_that_differs_is_named),
        cmocka_unit_test(bad_specs_are_refused),
        cmocka_unit_test(result_round_trip),
        cmocka_unit_test(app_results),
        cmocka_unit_test(outcomes),
        cmocka_unit_test(capture_keeps_the_newest),
        cmocka_unit_test(the_last_line_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
