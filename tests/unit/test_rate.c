/* Token buckets and breach windows, by hand. */
#include "check.h"

#include "broker/rate.h"

static void a_bucket_gives_its_rate(void **state)
{
    (void)state;
    struct bucket b = {0};
    int64_t now = 5000;
    assert_int_equal(bucket_wait_ms(&b, 100, 100, now), 0); /* a second's worth at once */
    bucket_take(&b, 100, 100);
    assert_in_range(bucket_wait_ms(&b, 100, 1, now), 10, 11);
    assert_in_range(bucket_wait_ms(&b, 100, 50, now), 500, 501);
    now += 500;
    assert_int_equal(bucket_wait_ms(&b, 100, 50, now), 0);
    bucket_take(&b, 100, 50);
    int64_t taken = 0;
    for (int64_t end = now + 10000; now < end; now += 7)
        while (bucket_wait_ms(&b, 100, 3, now) == 0) {
            bucket_take(&b, 100, 3);
            taken += 3;
        }
    assert_in_range(taken, 990, 1000);
}

static void more_than_a_second_s_worth_is_paid_for_afterwards(void **state)
{
    (void)state;
    struct bucket b = {0};
    assert_int_equal(bucket_wait_ms(&b, 10, 35, 0), 0);
    bucket_take(&b, 10, 35);
    assert_int_equal(bucket_wait_ms(&b, 10, 1, 2000) > 0, 1);
    assert_int_equal(bucket_wait_ms(&b, 10, 1, 2700), 0);
    assert_int_equal(bucket_wait_ms(&b, -1, 1000000, 2700), 0);
    assert_int_equal(bucket_wait_ms(&b, 0, 1, 2700) > 0, 1);
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
        cmocka_unit_test(breaches_count_within_their_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
