/* Retention goes by time that passed, not by a clock that leapt. */
#include "check.h"
#include "host/retention_clock.h"

enum { SECOND = 1000, HOUR = 3600 * SECOND };
static const int64_t DAY = 24LL * HOUR, YEAR = 365LL * 24 * HOUR, T0 = 1700000000000;

static void follows_small_steps(void **state)
{
    struct retention_clock a = {0};
    (void)state;
    assert_int_equal(retention_clock_step(&a, 1000, T0), T0);
    assert_int_equal(retention_clock_step(&a, 2000, T0 + 1000), T0 + 1000);
    assert_int_equal(retention_clock_step(&a, 3000, T0 + 2000 + RETENTION_CLOCK_LEAP_MS), T0 + 2000 + RETENTION_CLOCK_LEAP_MS);
    assert_int_equal(a.ahead_ms, 0);
}

static void a_leap_and_back_changes_nothing(void **state)
{
    struct retention_clock a = {0};
    (void)state;
    retention_clock_step(&a, 1000, T0);
    for (int64_t s = 1; s <= 12; s++)
        assert_int_equal(retention_clock_step(&a, 1000 + s * SECOND, T0 + YEAR + s * SECOND), T0 + s * SECOND);
    assert_int_equal(a.ahead_ms, YEAR);
    assert_int_equal(retention_clock_step(&a, 1000 + 13 * SECOND, T0 + 13 * SECOND), T0 + 13 * SECOND);
    assert_int_equal(a.ahead_ms, 0);
}

static void a_leap_that_stays_is_followed(void **state)
{
    struct retention_clock a = {0};
    (void)state;
    retention_clock_step(&a, 1000, T0);
    assert_int_equal(retention_clock_step(&a, 2000, T0 + YEAR), T0 + 1000);
    assert_int_equal(retention_clock_step(&a, 1999 + DAY, T0 + YEAR + DAY), T0 + 999 + DAY);
    assert_int_equal(retention_clock_step(&a, 2000 + DAY, T0 + YEAR + DAY), T0 + YEAR + DAY);
    assert_int_equal(retention_clock_step(&a, 3000 + DAY, T0 + YEAR + DAY + 1000), T0 + YEAR + DAY + 1000);
}

static void short_leaps_do_not_add_up(void **state)
{
    struct retention_clock a = {0};
    (void)state;
    retention_clock_step(&a, 1, T0);
    for (int64_t h = 1; h < 100; h += 2) {
        assert_int_equal(retention_clock_step(&a, 1 + h * HOUR, T0 + h * HOUR + YEAR), T0 + h * HOUR);
        assert_int_equal(retention_clock_step(&a, 1 + (h + 1) * HOUR, T0 + (h + 1) * HOUR), T0 + (h + 1) * HOUR);
    }
}

static void a_clock_set_back_is_followed_and_may_return(void **state)
{
    struct retention_clock a = {0};
    (void)state;
    retention_clock_step(&a, 1000, T0);
    assert_int_equal(retention_clock_step(&a, 2000, T0 - YEAR), T0 - YEAR);
    assert_int_equal(retention_clock_step(&a, 3000, T0 + 2000), T0 + 2000);
    assert_int_equal(a.ahead_ms, 0);
}

static void after_a_start_the_last_known_time_counts(void **state)
{
    struct retention_clock a = {.at_ms = T0};
    (void)state;
    assert_int_equal(retention_clock_step(&a, 5000, T0 + YEAR), T0);
    assert_int_equal(retention_clock_step(&a, 6000, T0 + YEAR + 1000), T0 + 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_small_steps),
        cmocka_unit_test(a_leap_and_back_changes_nothing),
        cmocka_unit_test(a_leap_that_stays_is_followed),
        cmocka_unit_test(short_leaps_do_not_add_up),
        cmocka_unit_test(a_clock_set_back_is_followed_and_may_return),
        cmocka_unit_test(after_a_start_the_last_known_time_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
