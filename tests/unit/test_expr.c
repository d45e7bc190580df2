#include "check.h"
#include "conf/expr.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static struct metric_row row;

static void set_up(void)
{
    for (int i = 0; i < N_METRICS; i++) {
        row.text[i] = NULL;
        row.number[i] = NAN;
    }
    row.text[METRIC_state] = "STALLED";
    row.text[METRIC_tenant_id] = "acme";
    row.number[METRIC_oldest_age_s] = 70;
    row.number[METRIC_ready] = 10;
    row.number[METRIC_in_per_s] = 0;
}

static bool holds(const char *text)
{
    struct expr *x = NULL;
    struct err e = {0};
    if (expr_parse(text, &x, &e) < 0)
        fail_msg("%s: %s", text, e.msg);
    bool v = expr_holds(x, &row);
    expr_free(x);
    return v;
}

static void test_conditions(void **state)
{
    static const char *const yes[] = {"oldest_age_s > 60",
                                      "oldest_age_s>=70 and ready==10",
                                      "ready != 11 or 1 > 2",
                                      "not ready > 10",
                                      "state == \"STALLED\" and tenant_id != \"beta\"",
                                      "(1 > 2 or 2 > 1) and not (3 < 2)",
                                      "ready * 2 + 1 > 20",
                                      "ready - 3 - 2 == 5",
                                      "-ready < 0",
                                      "ready / 4 == 2.5",
                                      "1 > 2 and 3 > 2 or 2 > 1",
                                      "oldest_age_s > 60 or p99_ms > 5",
                                      "not (1 > 2 and p99_ms > 5)"};
    static const char *const no[] = {
        "oldest_age_s > 70", "state == \"OK\"",  "p99_ms > 5",           "not p99_ms > 5",
        "p99_ms != 5",       "p99_ms == p99_ms", "ready / in_per_s > 1", "oldest_age_s > 60 and p99_ms > 5",
        "app == \"x\"",      "app != \"x\""};
    (void)state;
    set_up();
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        if (!holds(yes[i]))
            fail_msg("does not hold: %s", yes[i]);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        if (holds(no[i]))
            fail_msg("holds: %s", no[i]);
}

static void test_errors_say_what_and_where(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {{"", "something is missing at character 1"},
                 {"ready", "no condition"},
                 {"ready >", "something is missing at character 8"},
                 {"redy > 5", "unknown column"},
                 {"ready > 5 ready", "\"and\", \"or\" or the end"},
                 {"(ready > 5", "\")\" is missing"},
                 {"ready > \"5\"", "two numbers or two texts"},
                 {"state > \"A\"", "== and !="},
                 {"state == \"A", "no end"},
                 {"not ready", "takes a condition"},
                 {"ready and 1 > 2", "join conditions"},
                 {"ready + state > 1", "take numbers"},
                 {"1..2 > 1", "\"and\", \"or\" or the end"},
                 {"ready > 1e999", "no number"},
                 {"$ > 1", "a number, a \"text\" or a column"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct expr *x = NULL;
        struct err e = {0};
        assert_int_equal(expr_parse(cases[i].text, &x, &e), ERR_FORMAT);
        if (!strstr(e.msg, cases[i].says))
            fail_msg("%s: %s", cases[i].text, e.msg);
    }
    char deep[4096] = "";
    struct expr *x = NULL;
    struct err e = {0};
    memset(deep, '(', 4000);
    assert_int_equal(expr_parse(deep, &x, &e), ERR_FORMAT);
    assert_non_null(strstr(e.msg, "too deep"));
    for (int i = 0; i < 300; i++)
        strcpy(deep + i * 2, "1+");
    strcpy(deep + 600, "1 > 0");
    assert_int_equal(expr_parse(deep, &x, &e), ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_conditions), cmocka_unit_test(test_errors_say_what_and_where)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
