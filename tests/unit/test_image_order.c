/* Whose image is unpacked next, with a clock of our own. */
#include "check.h"

#include "manager/image_order.h"

enum { PLACES = 2, S = 1000 };

static void one_at_a_time(void **state)
{
    struct turn t = {0};
    (void)state;
    assert_int_equal(turn_wait_ms(&t, PLACES, 0, 5 * S), 0);
    turn_begin(&t, 5 * S);
    assert_int_equal(turn_wait_ms(&t, PLACES, 1, 6 * S), -1);
    turn_end(&t, 7 * S);
    assert_int_equal(turn_wait_ms(&t, PLACES, 0, 7 * S), 0); /* what is quick waits for nothing */
}

static void who_had_least_lately_is_first(void **state)
{
    struct turn a = {0}, b = {0};
    (void)state;
    turn_begin(&a, 0);
    turn_end(&a, 40 * S);
    turn_begin(&b, 40 * S);
    assert_true(turn_before(&b, &a, 50 * S)); /* what is going counts as it goes */
    assert_false(turn_before(&a, &b, 50 * S));
    assert_true(turn_before(&a, &b, 90 * S));
    turn_end(&b, 90 * S);
    assert_true(turn_before(&a, &b, 90 * S));
    turn_begin(&a, 90 * S);
    turn_end(&a, 110 * S);
    assert_true(turn_before(&b, &a, 110 * S));
}

static void spare_places_are_for_those_who_had_little(void **state)
{
    struct turn much = {0}, little = {0};
    (void)state;
    turn_begin(&much, 0);
    turn_end(&much, 30 * S);
    turn_begin(&little, 0);
    turn_end(&little, 5 * S);
    assert_int_equal(turn_wait_ms(&much, PLACES, PLACES - 1, 30 * S), 0);
    assert_int_equal(turn_wait_ms(&much, PLACES, PLACES, 30 * S), -1);
    assert_int_equal(turn_wait_ms(&little, PLACES, PLACES, 30 * S), 0);
    assert_int_equal(turn_wait_ms(&little, PLACES, PLACES + TURN_SPARE - 1, 30 * S), 0);
    assert_int_equal(turn_wait_ms(&little, PLACES, PLACES + TURN_SPARE, 30 * S), -1);
}

static void who_takes_long_backs_off(void **state)
{
    struct turn t = {0};
    int64_t now = 0, going = 0;
    (void)state;
    turn_begin(&t, 0);
    turn_end(&t, 600 * S);
    int64_t wait = turn_wait_ms(&t, PLACES, 0, 600 * S);
    assert_int_equal(wait, (600 - TURN_FREE_S) * S);
    assert_int_equal(turn_wait_ms(&t, PLACES, 0, 600 * S + wait), 0);
    t = (struct turn){0};
    while (now < 100000 * S) { /* an image after the other, each as long as it may be */
        now += turn_wait_ms(&t, PLACES, 0, now);
        turn_begin(&t, now);
        now += 600 * S;
        going += 600 * S;
        turn_end(&t, now);
        assert_in_range(turn_wait_ms(&t, PLACES, 0, now), 500 * S, TURN_MAX_WAIT_S * S);
    }
    assert_true(going * 100 < now * 55);
}

static void it_is_forgotten(void **state)
{
    struct turn t = {0};
    (void)state;
    turn_begin(&t, 0);
    turn_end(&t, 100 * S);
    assert_true(turn_used_s(&t, (100 + TURN_HALF_LIFE_S) * S) < 51 && turn_used_s(&t, (100 + TURN_HALF_LIFE_S) * S) > 49);
    assert_true(turn_used_s(&t, (100 + 20 * TURN_HALF_LIFE_S) * S) < 0.01);
    assert_int_equal(turn_wait_ms(&t, PLACES, 0, 141 * S), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_at_a_time),
        cmocka_unit_test(who_had_least_lately_is_first),
        cmocka_unit_test(spare_places_are_for_those_who_had_little),
        cmocka_unit_test(who_takes_long_backs_off),
        cmocka_unit_test(it_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
