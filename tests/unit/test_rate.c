/* Token buckets and breach windows, by hand. */
#include "check.h"

#include "programs/broker/rate.h"

static void a_bucket_gives_its_rate(void **state)
{
    (void)state;
    struct bucket b = {0};
    int64_t now = 5000;
    assert_int_equal(bucket_wait_ms(&b, 100, 1000, 100, now), 0); /* a second's worth at once */
    bucket_take(&b, 100, 100);
    assert_in_range(bucket_wait_ms(&b, 100, 1000, 1, now), 10, 11);
    assert_in_range(bucket_wait_ms(&b, 100, 1000, 50, now), 500, 501);
    now += 500;
    assert_int_equal(bucket_wait_ms(&b, 100, 1000, 50, now), 0);
    bucket_take(&b, 100, 50);
    int64_t taken = 0;
    for (int64_t end = now + 10000; now < end; now += 7)
        while (bucket_wait_ms(&b, 100, 1000, 3, now) == 0) {
            bucket_take(&b, 100, 3);
            taken += 3;
        }
    assert_in_range(taken, 990, 1000);
}

static void more_than_a_second_s_worth_is_paid_for_afterwards(void **state)
{
    (void)state;
    struct bucket b = {0};
    assert_int_equal(bucket_wait_ms(&b, 10, 1000, 35, 0), 0);
    bucket_take(&b, 10, 35);
    assert_int_equal(bucket_wait_ms(&b, 10, 1000, 1, 2000) > 0, 1);
    assert_int_equal(bucket_wait_ms(&b, 10, 1000, 1, 2700), 0);
    assert_int_equal(bucket_wait_ms(&b, -1, 1000, 1000000, 2700), 0);
    assert_int_equal(bucket_wait_ms(&b, 0, 1000, 1, 2700) > 0, 1);
}

static void a_burst_is_as_long_as_it_says(void **state)
{
    (void)state;
    struct bucket b = {0};
    assert_int_equal(bucket_size(100, 1000), 100);
    assert_int_equal(bucket_size(100, 4000), 400);
    assert_int_equal(bucket_size(100, 1), 1);
    assert_true(bucket_size(-1, 1000) == INT64_MAX && bucket_size(INT64_MAX, 3600000) == INT64_MAX);
    assert_int_equal(bucket_wait_ms(&b, 100, 4000, 400, 0), 0);
    bucket_take(&b, 100, 400);
    assert_in_range(bucket_wait_ms(&b, 100, 4000, 100, 0), 1000, 1001);
    assert_int_equal(bucket_wait_ms(&b, 100, 4000, 400, 4000), 0); /* it is full again, and no fuller later */
    assert_int_equal(bucket_wait_ms(&b, 100, 4000, 400, 100000), 0);
    bucket_take(&b, 100, 400);
    assert_in_range(bucket_wait_ms(&b, 100, 4000, 1, 100000), 10, 11);
    struct bucket small = {0}; /* a tenth of a second's worth */
    assert_int_equal(bucket_wait_ms(&small, 100, 100, 10, 0), 0);
    bucket_take(&small, 100, 10);
    assert_in_range(bucket_wait_ms(&small, 100, 100, 10, 0), 100, 101);
}

static void breaches_count_within_their_window(void **state)
{
    (void)state;
    struct breaches b = {0};
    assert_false(breaches_add(&b, 3, 5000, 0));
    assert_false(breaches_add(&b, 3, 5000, 3000));
    assert_false(breaches_add(&b, 3, 5000, 5001)); /* the first is too old */
    assert_true(breaches_add(&b, 3, 5000, 8000));
    assert_false(breaches_add(&b, 3, 5000, 20000));
    assert_false(breaches_add(&b, 2, 5000, 20001)); /* configured anew: counted anew */
    assert_true(breaches_add(&b, 2, 5000, 20002));
    breaches_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_gives_its_rate),
        cmocka_unit_test(more_than_a_second_s_worth_is_paid_for_afterwards),
        cmocka_unit_test(a_burst_is_as_long_as_it_says),
        cmocka_unit_test(breaches_count_within_their_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
