/* Who of an app's instances goes first, and which app gives one up. */
#include "check.h"
#include "programs/streammgr/drain_order.h"

enum { OLD = 1, UNREADY = 2 };

static struct drain_candidate one(int what, int64_t leased)
{
    return (struct drain_candidate){.old = what & OLD, .ready = !(what & UNREADY), .leased = leased};
}

static void the_least_useful_goes_first(void **state)
{
    const struct drain_candidate v[] = {one(0, 3), one(UNREADY, 9), one(OLD, 9), one(OLD | UNREADY, 9), one(0, 0)};
    (void)state;
    assert_int_equal(drain_first(v, 5, false), 3); /* of another generation, and does not work */
    assert_int_equal(drain_first(v, 3, false), 2); /* of another generation */
    assert_int_equal(drain_first(v, 2, false), 1); /* does not work */
    const struct drain_candidate alike[] = {v[0], v[4], one(0, -1)};
    assert_int_equal(drain_first(alike, 2, false), 1); /* holds less */
    assert_int_equal(drain_first(alike, 3, false), 2); /* does not even consume */
}

static void the_youngest_goes_of_equals(void **state)
{
    const struct drain_candidate v[] = {one(0, 2), one(0, 2), one(0, 2)};
    (void)state;
    assert_int_equal(drain_first(v, 3, false), 0);
    assert_int_equal(drain_first(v, 1, false), 0);
}

static void a_replacement_spares_the_new(void **state)
{
    const struct drain_candidate v[] = {one(UNREADY, 0), one(0, 0), one(OLD, 5), one(OLD, 4)};
    (void)state;
    assert_int_equal(drain_first(v, 4, true), 3);
    assert_int_equal(drain_first(v, 2, true), DRAIN_NOBODY);
    assert_int_equal(drain_first(v, 0, false), DRAIN_NOBODY);
}

static void the_richest_gives_one_up(void **state)
{
    const struct drain_giver v[] = {{1, 0}, {3, 0}, {5, 5}, {4, 1}, {4, 0}};
    (void)state;
    assert_int_equal(drain_richest(v, 5), 3); /* 5 of them are promised */
    assert_int_equal(drain_richest(v, 3), 1);
    assert_int_equal(drain_richest(v, 1), DRAIN_NOBODY); /* its only one */
    assert_int_equal(drain_richest(v, 0), DRAIN_NOBODY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_least_useful_goes_first), cmocka_unit_test(the_youngest_goes_of_equals),
                                       cmocka_unit_test(a_replacement_spares_the_new), cmocka_unit_test(the_richest_gives_one_up)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
