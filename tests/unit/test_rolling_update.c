#include "programs/streammgr/restart_delay.h"
#include "programs/streammgr/rolling_update.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static struct app_view view(int64_t target, int64_t max, int64_t new_ready, int64_t new_unready, int64_t old_ready,
                            int64_t old_unready)
{
    return (struct app_view){target, max, true, new_ready, new_unready, old_ready, old_unready};
}

static enum rolling_step ask(struct app_view v)
{
    return rolling_update_step(&v);
}

static void test_counts(void **state)
{
    (void)state;
    assert_int_equal(ask(view(0, 4, 0, 0, 0, 0)), ROLLING_nothing);
    assert_int_equal(ask(view(2, 4, 0, 0, 0, 0)), ROLLING_start);
    assert_int_equal(ask(view(2, 4, 1, 0, 0, 0)), ROLLING_start);
    assert_int_equal(ask(view(2, 4, 1, 1, 0, 0)), ROLLING_nothing);
    assert_int_equal(ask(view(2, 4, 3, 0, 0, 0)), ROLLING_drain);
    assert_int_equal(ask(view(0, 4, 0, 1, 0, 0)), ROLLING_drain);
    struct app_view forbidden = view(2, 4, 1, 0, 0, 0);
    forbidden.may_start = false;
    assert_int_equal(rolling_update_step(&forbidden), ROLLING_nothing);
}

static void test_a_new_one_proves_itself_first(void **state)
{
    (void)state;
    assert_int_equal(ask(view(2, 2, 0, 0, 2, 0)), ROLLING_start);   /* beyond max */
    assert_int_equal(ask(view(2, 2, 0, 1, 2, 0)), ROLLING_nothing); /* until it is ready */
    assert_int_equal(ask(view(2, 2, 1, 0, 2, 0)), ROLLING_drain);
    assert_int_equal(ask(view(2, 2, 1, 0, 1, 0)), ROLLING_drain_old); /* then within max */
    assert_int_equal(ask(view(2, 2, 1, 0, 0, 0)), ROLLING_start);
    assert_int_equal(ask(view(2, 3, 1, 0, 1, 0)), ROLLING_start); /* there is room beside */
    assert_int_equal(ask(view(2, 3, 2, 0, 1, 0)), ROLLING_drain_old);
    assert_int_equal(ask(view(2, 2, 0, 0, 2, 1)), ROLLING_drain); /* the last attempt never worked: room for another */
    assert_int_equal(ask(view(1, 3, 0, 0, 2, 0)), ROLLING_drain);
    assert_int_equal(ask(view(0, 3, 0, 0, 1, 0)), ROLLING_drain);
}

static void take(int64_t *a, int64_t *b)
{
    if (*a)
        (*a)--;
    else
        (*b)--;
}

/* Random lives: whatever happens, the rules hold, and with nothing more happening it comes to rest at what is wanted. */
static void test_rules_hold(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 20000; seed++) {
        srandom(seed);
        struct app_view v = view(random() % 4, 4, 0, 0, 0, 0);
        v.max = v.target + random() % 2;
        for (int step = 0; step < 200; step++) {
            int64_t n = v.n_new_ready + v.n_new_unready + v.n_old_ready + v.n_old_unready;
            bool calm = step > 120;
            switch (calm ? 7 : random() % 8) {
            case 0: /* another generation */
                v.n_old_ready += v.n_new_ready;
                v.n_old_unready += v.n_new_unready;
                v.n_new_ready = v.n_new_unready = 0;
                break;
            case 1: /* one dies */
                if (v.n_old_ready)
                    v.n_old_ready--;
                else if (v.n_new_unready)
                    v.n_new_unready--;
                break;
            case 2:
                v.target = random() % (v.max + 1);
                break;
            case 3:
                v.may_start = random() % 4;
                break;
            case 7:
                v.may_start |= calm;
                if (v.n_new_unready) {
                    v.n_new_unready--;
                    v.n_new_ready++;
                }
                break;
            default:
                break;
            }
            n = v.n_new_ready + v.n_new_unready + v.n_old_ready + v.n_old_unready;
            switch (rolling_update_step(&v)) {
            case ROLLING_start:
                assert_true(v.may_start);
                v.n_new_unready++;
                assert_true(n + 1 <= v.max + 1);
                break;
            case ROLLING_drain:
                assert_true(n > v.target);
                if (v.n_old_ready + v.n_old_unready)
                    take(&v.n_old_unready, &v.n_old_ready);
                else
                    take(&v.n_new_unready, &v.n_new_ready);
                break;
            case ROLLING_drain_old:
                assert_true(v.n_old_unready || v.n_new_ready);
                take(&v.n_old_unready, &v.n_old_ready);
                break;
            case ROLLING_nothing:
                break;
            }
            assert_true(v.n_old_ready >= 0 && v.n_old_unready >= 0 && v.n_new_ready >= 0 && v.n_new_unready >= 0);
        }
        assert_int_equal(v.n_old_ready + v.n_old_unready, 0);
        assert_int_equal(v.n_new_ready + v.n_new_unready, v.target);
    }
}

static void test_delays(void **state)
{
    (void)state;
    assert_int_equal(restart_delay_ms(0, UINT32_MAX), 0);
    assert_int_equal(restart_delay_ms(1, UINT32_MAX), 0);
    int64_t full = 100;
    for (int64_t k = 2; k < 40; k++) {
        assert_int_equal(restart_delay_ms(k, 0), full / 2);
        assert_in_range(restart_delay_ms(k, UINT32_MAX), full - 1, full);
        assert_in_range(restart_delay_ms(k, UINT32_MAX / 2), full * 3 / 4 - 1, full * 3 / 4 + 1);
        full = full * 2 > 60000 ? 60000 : full * 2;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts), cmocka_unit_test(test_a_new_one_proves_itself_first),
                                       cmocka_unit_test(test_rules_hold), cmocka_unit_test(test_delays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
