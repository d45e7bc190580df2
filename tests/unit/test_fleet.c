/* The simulator of a fleet keeps its promises with fixed seeds, gives the same figures again, and notices when it is made to break
 * one: what it judges is batchmgr's fair queue and the monitor's scaling law as they are. */
#include "check.h"
#include "tests/bench/fleetsim/fleet.h"

#include <math.h>
#include <string.h>

/* A cell fails while another one is emptied. */
static struct fleet_settings troubled(uint64_t seed)
{
    struct fleet_settings s = fleet_defaults;
    s.seed = seed;
    s.cells = 6;
    s.tenants = 61;
    s.placement = GROUPS;
    s.fails = 1;
    s.drains = 2;
    s.skew = 0.3;
    s.load = 0.7;
    s.seconds = 900;
    s.tenant_bytes = 1e8;
    return s;
}

static struct fleet_settings two_that_wait(double weight)
{
    struct fleet_settings s = fleet_defaults;
    s.cells = 1;
    s.tenants = 2;
    s.backlogged = true;
    s.weight_of_second = weight;
    s.seconds = 600;
    return s;
}

static void each_file_ends_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct fleet_settings s = troubled(seed);
        struct fleet_figures f = fleet_run(&s);
        assert_null(fleet_verdict(&s, &f));
        assert_true(f.files > 1000 && f.ended == f.files);
        assert_true(f.reruns > 0 && f.moved > 0 && f.hit > 0);
    }
}

static void the_same_seed_gives_the_same_figures(void **state)
{
    struct fleet_settings s = troubled(3), t = troubled(4);
    (void)state;
    struct fleet_figures a = fleet_run(&s), b = fleet_run(&s), c = fleet_run(&t);
    assert_memory_equal(&a, &b, sizeof a);
    assert_true(memcmp(&a, &c, sizeof a) != 0);
}

static void service_is_as_the_weights(void **state)
{
    (void)state;
    for (double weight = 1; weight <= 3; weight++) {
        struct fleet_settings s = two_that_wait(weight);
        struct fleet_figures f = fleet_run(&s);
        assert_null(fleet_verdict(&s, &f));
        assert_true(f.ratio > weight * 0.95 && f.ratio < weight * 1.05);
    }
}

static void no_queue_starves_though_cells_are_full(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct fleet_settings s = fleet_defaults;
        s.seed = seed;
        s.cells = 2;
        s.tenants = 81;
        s.load = 0.95;
        struct fleet_figures f = fleet_run(&s);
        assert_null(fleet_verdict(&s, &f));
    }
}

static void what_is_broken_is_noticed(void **state)
{
    static const char *const say[N_BREAKAGES] = {
        [LOSES] = "a file never ended",
        [TWICE] = "a file ended twice",
        [FIFO] = "service of two tenants that always wait is not as their weights",
        [STARVES] = "a file never ended",
        [CROWDS] = "a cell ran more than it has cores for",
    };
    (void)state;
    for (enum breakage b = LOSES; b < N_BREAKAGES; b++) {
        struct fleet_settings s = b == FIFO ? two_that_wait(3) : troubled(1);
        s.breakage = b;
        struct fleet_figures f = fleet_run(&s);
        const char *verdict = fleet_verdict(&s, &f);
        assert_non_null(verdict);
        assert_string_equal(verdict, say[b]);
    }
}

static struct fleet_figures poisoned(enum placement p, int shard)
{
    struct fleet_settings s = fleet_defaults;
    s.placement = p;
    s.shard = shard;
    s.noise = POISON;
    s.load = 0.5;
    s.seconds = 900;
    struct fleet_figures f = fleet_run(&s);
    assert_null(fleet_verdict(&s, &f));
    return f;
}

static void shuffle_sharding_bounds_what_a_poisonous_tenant_takes_along(void **state)
{
    struct fleet_figures all = poisoned(EVERYWHERE, 16), groups = poisoned(GROUPS, 4), shuffled = poisoned(SHUFFLED, 4);
    (void)state;
    assert_true(all.hit > 0.99);
    assert_true(groups.hit > 0.2 && groups.hit < 0.3);
    assert_true(shuffled.hit < 0.02);
    assert_true(shuffled.wait_p99_s < groups.wait_p99_s / 10);
}

static void shards_are_as_the_combinatorics_say(void **state)
{
    enum { N = 16, K = 4, SHARDS = 20000 };
    struct rng r = {1};
    int first[FLEET_CELLS_MAX], other[FLEET_CELLS_MAX];
    double seen[K + 1] = {0}, sum = 0;
    (void)state;
    assert_true(choose(8, 2) == 28 && choose(100, 5) == 75287520 && choose(3, 4) == 0);
    assert_int_equal(shard_of(SHUFFLED, N, K, 0, &r, first), K);
    for (int i = 0; i < SHARDS; i++) {
        int same = 0;
        shard_of(SHUFFLED, N, K, i, &r, other);
        for (int a = 0; a < K; a++) {
            assert_true(other[a] >= 0 && other[a] < N);
            for (int b = 0; b < K; b++) {
                same += first[a] == other[b];
                assert_true(a == b || other[a] != other[b]);
            }
        }
        seen[same] += 1.0 / SHARDS;
    }
    for (int j = 0; j <= K; j++) {
        sum += shared(N, K, j);
        assert_true(fabs(seen[j] - shared(N, K, j)) < 0.015);
    }
    assert_true(fabs(sum - 1) < 1e-12);
}

static void streams_recover_sooner_with_more_room(void **state)
{
    double before = 1e9;
    (void)state;
    for (double room = 1.25; room <= 3; room *= 2) {
        struct stream_settings s = {7, 50, 100, 10, room, 120};
        struct stream_figures f = streams_run(&s);
        assert_int_equal(f.over, 0);
        assert_true(f.recovered_s >= 0 && f.recovered_s < before);
        before = f.recovered_s;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_file_ends_once),
        cmocka_unit_test(the_same_seed_gives_the_same_figures),
        cmocka_unit_test(service_is_as_the_weights),
        cmocka_unit_test(no_queue_starves_though_cells_are_full),
        cmocka_unit_test(what_is_broken_is_noticed),
        cmocka_unit_test(shuffle_sharding_bounds_what_a_poisonous_tenant_takes_along),
        cmocka_unit_test(shards_are_as_the_combinatorics_say),
        cmocka_unit_test(streams_recover_sooner_with_more_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
