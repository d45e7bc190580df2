/* When a tenant whose files are refused is slowed down, and told so; how much came to a verdict lately. With a clock of our own. */
#include "check.h"

#include "programs/batchmgr/refusals.h"
#include "programs/batchmgr/throughput.h"

static void so_many_at_once_then_so_many_a_second(void **state)
{
    struct refusals r = {0};
    int64_t now = 5000;
    int n = 0;
    (void)state;
    for (; !refusals_slow_down(&r, now); n++)
        refusals_count(&r, now);
    assert_int_equal(n, REFUSALS_AT_ONCE);
    for (int64_t end = now + 60000; now < end; now += 30)
        for (; !refusals_slow_down(&r, now); n++)
            refusals_count(&r, now);
    assert_in_range(n - REFUSALS_AT_ONCE, 60 * REFUSALS_PER_S - 2, 60 * REFUSALS_PER_S + 1);
}

static void it_is_told_once_until_half_is_free_again(void **state)
{
    struct refusals r = {0};
    int64_t now = 0;
    int told = 0;
    (void)state;
    for (int i = 0; i < 3 * REFUSALS_AT_ONCE; i++) {
        refusals_count(&r, now);
        told += refusals_must_tell(&r, now);
    }
    assert_int_equal(told, 1);
    now += (int64_t)3 * REFUSALS_AT_ONCE * 1000 / REFUSALS_PER_S;
    assert_false(refusals_slow_down(&r, now));
    for (int i = 0; i < REFUSALS_AT_ONCE; i++)
        refusals_count(&r, now);
    assert_true(refusals_must_tell(&r, now));
    assert_false(refusals_must_tell(&r, now));
}

static void who_delivers_good_files_is_never_slowed(void **state)
{
    struct refusals r = {0};
    (void)state;
    for (int64_t now = 0; now < 3600000; now += 1000 / REFUSALS_PER_S) {
        refusals_count(&r, now);
        assert_false(refusals_slow_down(&r, now));
    }
}

static void throughput_is_of_the_last_minutes(void **state)
{
    struct throughput t = {0};
    double files, rows;
    const int64_t start = 7000000, full = THROUGHPUT_MS / 1000;
    (void)state;
    throughput_per_s(&t, start, start, &files, &rows);
    assert_true(files == 0 && rows == 0);
    for (int64_t now = start; now < start + 60000; now += 1000)
        throughput_add(&t, now, 2, 100);
    throughput_per_s(&t, start + 60000, start, &files, &rows);
    assert_true(files == 2 && rows == 100); /* since the beginning, which is later than the window's */
    const double before = files;
    throughput_per_s(&t, start + 60001, start, &files, &rows);
    assert_true(files < before);
    const double steady = files;
    throughput_per_s(&t, start + 69999, start, &files, &rows);
    assert_true(files == steady); /* nothing happened */
    for (int64_t now = start + 60000; now < start + 3600000; now += 1000)
        throughput_add(&t, now, 3, 30);
    throughput_per_s(&t, start + 3600000, start, &files, &rows);
    assert_true(files > 2.9 && files < 3.1 && rows > 29 && rows < 31);
    throughput_per_s(&t, start + 3600000 + THROUGHPUT_MS / 2, start, &files, &rows);
    assert_true(files > 1.3 && files < 1.7);
    throughput_per_s(&t, start + 3600000 + THROUGHPUT_MS, start, &files, &rows);
    assert_true(files == 0 && rows == 0);
    throughput_add(&t, start + 9000000, 1, 0); /* into a slot that was in use before */
    throughput_per_s(&t, start + 9000000, start, &files, &rows);
    assert_true(files > 0.9 / (double)full && files < 1.1 / (double)(full - THROUGHPUT_SLOT_MS / 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(so_many_at_once_then_so_many_a_second),
        cmocka_unit_test(it_is_told_once_until_half_is_free_again),
        cmocka_unit_test(who_delivers_good_files_is_never_slowed),
        cmocka_unit_test(throughput_is_of_the_last_minutes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
