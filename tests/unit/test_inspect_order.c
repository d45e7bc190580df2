/* Whose file is inspected next: each rule, and a day of greedy tenants in a simulation. */
#include "check.h"
#include "programs/batchmgr/inspect_order.h"

#include <stdio.h>
#include <string.h>

static void seconds_over_weight(void **state)
{
    (void)state;
    struct inspect_share a = {0}, b = {0};
    inspect_order_charge(&a, 2000, 1);
    inspect_order_charge(&b, 2000, 4);
    assert_true(a.used == 2 && b.used == 0.5 && inspect_order_before(&b, &a) && !inspect_order_before(&a, &b));
    inspect_order_charge(&b, -5, 0); /* a clock that stood still still costs something */
    assert_true(b.used > 0.5 && b.used < 0.51);
}

static void idling_earns_nothing(void **state)
{
    (void)state;
    struct inspect_share old = {.used = 3}, busy = {.used = 50}, ahead = {.used = 90};
    inspect_order_join(&old, &busy);
    inspect_order_join(&ahead, &busy);
    assert_true(old.used == 50 && ahead.used == 90);
    inspect_order_join(&old, NULL);
    assert_true(old.used == 50);
}

static void the_last_inspector_is_for_who_holds_none(void **state)
{
    (void)state;
    struct inspect_share none = {0}, one = {.n_held = 1}, two = {.n_held = 2};
    assert_true(inspect_order_may_start(&(struct inspect_pool){2, 1, 0}, &one));
    assert_false(inspect_order_may_start(&(struct inspect_pool){2, 2, 0}, &one));
    assert_true(inspect_order_may_start(&(struct inspect_pool){2, 2, 0}, &none));
    assert_false(inspect_order_may_start(&(struct inspect_pool){2, 3, 0}, &none));
    assert_true(inspect_order_may_start(&(struct inspect_pool){2, 3, 1}, &none));
    assert_false(inspect_order_may_start(&(struct inspect_pool){2, 2, 2}, &two)); /* what stood aside is held all the same */
    assert_false(inspect_order_may_start(&(struct inspect_pool){1, 1, 0}, &one));
    assert_true(inspect_order_may_start(&(struct inspect_pool){1, 1, 0}, &none));
}

static void long_ones_make_room(void **state)
{
    (void)state;
    assert_true(inspect_order_stands_aside(&(struct inspect_pool){2, 3, 0}, INSPECT_ORDER_SLOT_MS));
    assert_false(inspect_order_stands_aside(&(struct inspect_pool){2, 3, 0}, INSPECT_ORDER_SLOT_MS - 1));
    assert_false(inspect_order_stands_aside(&(struct inspect_pool){2, 2, 0}, INSPECT_ORDER_SLOT_MS));
    assert_false(inspect_order_stands_aside(&(struct inspect_pool){2, 3 + INSPECT_ORDER_MAX_ASIDE, INSPECT_ORDER_MAX_ASIDE},
                                            INSPECT_ORDER_SLOT_MS));
    assert_true(inspect_order_steps_back(5000, 0) && inspect_order_steps_back(5000, 2000));
    assert_false(inspect_order_steps_back(5000, -1) || inspect_order_steps_back(5000, 4000) ||
                 inspect_order_steps_back(INSPECT_ORDER_SLOT_MS - 1, 0));
}

enum { N_GREEDY = 6, LANES = 2, SEATS = LANES + 1 + INSPECT_ORDER_MAX_ASIDE, STEP_MS = 10 };

struct seat {
    int tenant; /* -1: free */
    bool aside;
    int64_t since_ms, until_ms;
};

struct world {
    struct inspect_share shares[N_GREEDY + 1]; /* the last is quiet */
    struct seat seats[SEATS];
    int64_t lasts_ms[N_GREEDY + 1];
    bool wants[N_GREEDY + 1];
    int64_t served_ms[N_GREEDY + 1];
};

static struct inspect_pool pool(const struct world *w)
{
    struct inspect_pool p = {.n_lanes = LANES};
    for (int i = 0; i < SEATS; i++) {
        p.n_held += w->seats[i].tenant >= 0;
        p.n_aside += w->seats[i].tenant >= 0 && w->seats[i].aside;
    }
    return p;
}

static bool start_one(struct world *w, int64_t now_ms)
{
    const struct inspect_pool p = pool(w);
    int best = -1, seat = 0;
    for (int t = 0; t <= N_GREEDY; t++)
        if (w->wants[t] && inspect_order_may_start(&p, &w->shares[t]) &&
            (best < 0 || inspect_order_before(&w->shares[t], &w->shares[best])))
            best = t;
    if (best < 0)
        return false;
    while (w->seats[seat].tenant >= 0)
        assert_true(++seat < SEATS);
    w->seats[seat] = (struct seat){best, false, now_ms, now_ms + w->lasts_ms[best]};
    w->shares[best].n_held++;
    if (best == N_GREEDY)
        w->wants[best] = false;
    return true;
}

static bool make_room(struct world *w, int64_t now_ms)
{
    const struct inspect_pool p = pool(w);
    struct seat *oldest = NULL;
    bool waits = false;
    for (int t = 0; t <= N_GREEDY; t++)
        waits |= w->wants[t] && !w->shares[t].n_held;
    for (int i = 0; i < SEATS; i++)
        if (w->seats[i].tenant >= 0 && !w->seats[i].aside && (!oldest || w->seats[i].since_ms < oldest->since_ms))
            oldest = &w->seats[i];
    return waits && oldest && inspect_order_stands_aside(&p, now_ms - oldest->since_ms) && (oldest->aside = true);
}

static void step(struct world *w, int64_t now_ms)
{
    for (int i = 0; i < SEATS; i++) {
        struct seat *s = &w->seats[i];
        if (s->tenant < 0)
            continue;
        inspect_order_charge(&w->shares[s->tenant], STEP_MS, 1);
        w->served_ms[s->tenant] += STEP_MS;
        if (now_ms >= s->until_ms) {
            w->shares[s->tenant].n_held--;
            s->tenant = -1;
        }
    }
    while (start_one(w, now_ms) || (make_room(w, now_ms) && start_one(w, now_ms)))
        ;
}

static const struct inspect_share *least(const struct world *w)
{
    const struct inspect_share *found = NULL;
    for (int t = 0; t < N_GREEDY; t++)
        if (w->wants[t] && (!found || inspect_order_before(&w->shares[t], found)))
            found = &w->shares[t];
    return found;
}

/* Greedy tenants always have files, of all lengths; a quiet one has a short file every 30 s, and never waits long for its turn. */
static void a_quiet_tenant_waits_for_a_slot_at_most(void **state)
{
    (void)state;
    for (int n = 1; n <= N_GREEDY; n++) {
        struct world w = {0};
        int64_t asked_ms = 0, worst_ms = 0;
        for (int i = 0; i < SEATS; i++)
            w.seats[i].tenant = -1;
        for (int t = 0; t < n; t++) {
            w.wants[t] = true;
            w.lasts_ms[t] = t % 3 == 0 ? 100000 : t % 3 == 1 ? 900 : 20;
        }
        w.lasts_ms[N_GREEDY] = 50;
        for (int64_t now_ms = 0; now_ms < 905000; now_ms += STEP_MS) {
            bool waited = w.wants[N_GREEDY];
            if (now_ms % 30000 == 29990) {
                inspect_order_join(&w.shares[N_GREEDY], least(&w));
                w.wants[N_GREEDY] = true;
                asked_ms = now_ms;
                waited = true;
            }
            step(&w, now_ms);
            if (waited && !w.wants[N_GREEDY] && now_ms - asked_ms > worst_ms)
                worst_ms = now_ms - asked_ms;
        }
        assert_false(w.wants[N_GREEDY]);
        if (worst_ms > INSPECT_ORDER_SLOT_MS + STEP_MS)
            fail_msg("%d greedy tenants: %lld ms", n, (long long)worst_ms);
        for (int t = 0; n <= LANES && t < n; t++) /* and who is greedy is not starved either */
            assert_true(w.served_ms[t] > 300000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seconds_over_weight),
        cmocka_unit_test(idling_earns_nothing),
        cmocka_unit_test(long_ones_make_room),
        cmocka_unit_test(the_last_inspector_is_for_who_holds_none),
        cmocka_unit_test(a_quiet_tenant_waits_for_a_slot_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
