#include "base/mem.h"
#include "check.h"
#include "programs/batchmgr/fair_queue.h"

#include <stdio.h>
#include <string.h>

static struct file *add(struct fair_queue *s, const char *tenant, const char *app, int n)
{
    struct file *f = file_new(tenant, "d");
    snprintf(f->file_id, sizeof f->file_id, "%026d", n);
    fair_queue_add(s, app, f);
    return f;
}

/* Picks once, releases at once; gives the tenant's first letter, or '-'. */
static char serve(struct fair_queue *s, int64_t duration_ms)
{
    const char *app;
    struct demand d;
    struct file *f = fair_queue_pick(s, &app, &d);
    if (!f)
        return '-';
    char who = f->tenant[0];
    fair_queue_release(s, f->tenant, &d, duration_ms);
    file_free(f);
    return who;
}

static char hold(struct fair_queue *s)
{
    const char *app;
    struct demand d;
    struct file *f = fair_queue_pick(s, &app, &d);
    char who = f ? f->tenant[0] : '-';
    file_free(f);
    return who;
}

static void drop(void *arg, struct file *f)
{
    (void)arg;
    file_free(f);
}

static void end(struct fair_queue *s)
{
    fair_queue_drain(s, drop, NULL);
    assert_int_equal(fair_queue_n_queued(s, NULL), 0);
    fair_queue_free(s);
}

static void a_quiet_tenant_is_next(void **state)
{
    struct fair_queue *s = fair_queue_new(1, 1000);
    (void)state;
    fair_queue_set_app(s, "flood", "app", 0, &(struct demand){0, 1, 10});
    fair_queue_set_app(s, "quiet", "app", 0, &(struct demand){0, 1, 10});
    for (int i = 0; i < 1000; i++)
        add(s, "flood", "app", i);
    for (int i = 0; i < 500; i++)
        assert_int_equal(serve(s, 10), 'f');
    add(s, "quiet", "app", 5000);
    assert_int_equal(serve(s, 10), 'q');
    assert_int_equal(serve(s, 10), 'f');
    end(s);
}

/* One slot, endless backlog: service is shared by weight, whatever the runs' lengths. */
static void weights_share_service(void **state)
{
    struct fair_queue *s = fair_queue_new(1, 1000);
    int64_t served[2] = {0, 0};
    (void)state;
    fair_queue_set_tenant(s, "a", 3, 100);
    fair_queue_set_tenant(s, "b", 1, 100);
    fair_queue_set_app(s, "a", "app", 0, &(struct demand){0, 1, 10});
    fair_queue_set_app(s, "b", "app", 0, &(struct demand){0, 1, 10});
    for (int i = 0; i < 2000; i++) {
        add(s, "a", "app", i);
        add(s, "b", "app", i);
    }
    for (int i = 0; i < 1000; i++) {
        const char *app;
        struct demand d;
        struct file *f = fair_queue_pick(s, &app, &d);
        bool a = f->tenant[0] == 'a';
        int64_t ms = a ? 7 : 20;
        served[!a] += ms;
        fair_queue_release(s, f->tenant, &d, ms);
        file_free(f);
    }
    double ratio = (double)served[0] / (double)served[1];
    assert_true(ratio > 2.9 && ratio < 3.1);
    end(s);
}

/* The cores are taken by slow runs: one run of each quiet tenant starts all the same, if memory is there, and the flood gets none
 * more. */
static void a_quiet_tenant_need_not_wait_for_cores(void **state)
{
    struct fair_queue *s = fair_queue_new(2, 1000);
    (void)state;
    fair_queue_lend_cores(s, FAIR_QUEUE_LOCAL, true);
    fair_queue_set_app(s, "flood", "app", 0, &(struct demand){0, 1, 10});
    fair_queue_set_app(s, "quiet", "app", 0, &(struct demand){0, 1, 10});
    fair_queue_set_app(s, "silent", "app", 0, &(struct demand){0, 1, 10});
    fair_queue_set_app(s, "large", "app", 0, &(struct demand){0, 1, 990});
    for (int i = 0; i < 10; i++)
        add(s, "flood", "app", i);
    assert_int_equal(hold(s), 'f');
    assert_int_equal(hold(s), 'f');
    assert_int_equal(hold(s), '-');
    add(s, "quiet", "app", 100);
    add(s, "quiet", "app", 101);
    assert_int_equal(hold(s), 'q');
    assert_int_equal(hold(s), '-');
    assert_string_equal(fair_queue_why_waiting(s, "quiet"), "capacity");
    add(s, "silent", "app", 102);
    assert_int_equal(hold(s), 's');
    add(s, "large", "app", 103); /* the cores are lent once, and memory never */
    assert_int_equal(hold(s), '-');
    end(s);
}

/* The example of the DRF paper: 9 cpus, 18 GB; A asks <1, 4>, B asks <3, 1>. A gets 3 runs, B 2. */
static void dominant_resources(void **state)
{
    struct fair_queue *s = fair_queue_new(9, 18);
    int n[2] = {0, 0};
    (void)state;
    fair_queue_set_app(s, "a", "app", 0, &(struct demand){0, 1, 4});
    fair_queue_set_app(s, "b", "app", 0, &(struct demand){0, 3, 1});
    for (int i = 0; i < 20; i++) {
        add(s, "a", "app", i);
        add(s, "b", "app", i);
    }
    for (char who; (who = hold(s)) != '-';)
        n[who == 'b']++;
    assert_int_equal(n[0], 3);
    assert_int_equal(n[1], 2);
    assert_string_equal(fair_queue_why_waiting(s, "b"), "capacity");
    end(s);
}

/* What waits for one holds up nobody who wants the other, and a tenant's share of one is none of the other. */
static void pools_are_apart(void **state)
{
    struct fair_queue *s = fair_queue_new(1, 1000);
    int far = fair_queue_pool(s, "far");
    struct demand here = {FAIR_QUEUE_LOCAL, 1, 10}, there = {far, 1, 10};
    (void)state;
    assert_int_equal(fair_queue_pool(s, "far"), far);
    fair_queue_set_app(s, "a", "here", 0, &here);
    fair_queue_set_capacity(s, far, 2, 1000);
    fair_queue_set_app(s, "a", "there", 0, &there);
    fair_queue_set_app(s, "b", "here", 0, &here);
    fair_queue_set_app(s, "b", "there", 0, &there);
    for (int i = 0; i < 3; i++)
        add(s, "a", "there", i);
    add(s, "a", "here", 10);
    add(s, "a", "here", 11);
    for (int i = 0; i < 3; i++)
        assert_int_equal(hold(s), 'a'); /* two there and one here */
    assert_int_equal(hold(s), '-');
    assert_string_equal(fair_queue_why_waiting(s, "a"), "capacity");
    add(s, "b", "here", 20);
    add(s, "b", "there", 21);
    fair_queue_release(s, "a", &there, 10);
    assert_int_equal(hold(s), 'b');
    assert_int_equal(hold(s), '-');
    fair_queue_set_app(s, "b", "here", 0, &there); /* the file that waits goes along */
    fair_queue_release(s, "a", &there, 10);
    assert_int_equal(hold(s), 'a');
    fair_queue_release(s, "b", &there, 10);
    assert_int_equal(hold(s), 'b');
    fair_queue_set_tenant(s, "a", 1, 0);
    assert_string_equal(fair_queue_why_waiting(s, "a"), "concurrency");
    end(s);
}

static void a_part_of_a_pool_is_the_most(void **state)
{
    struct fair_queue *s = fair_queue_new(8, 1000);
    (void)state;
    int pool = fair_queue_pool(s, "cluster");
    fair_queue_set_capacity(s, pool, 8, 1000);
    fair_queue_set_most(s, pool, 0.25);
    fair_queue_set_app(s, "flood", "app", 0, &(struct demand){pool, 1, 10});
    fair_queue_set_app(s, "quiet", "app", 0, &(struct demand){pool, 1, 10});
    fair_queue_set_app(s, "large", "app", 0, &(struct demand){pool, 4, 10});
    for (int i = 0; i < 10; i++)
        add(s, "flood", "app", i);
    assert_int_equal(hold(s), 'f');
    assert_int_equal(hold(s), 'f');
    assert_int_equal(hold(s), '-'); /* two of eight, however many are free */
    assert_string_equal(fair_queue_why_waiting(s, "flood"), "its shards");
    add(s, "quiet", "app", 20);
    assert_int_equal(hold(s), 'q');
    add(s, "large", "app", 30);
    assert_int_equal(hold(s), 'l'); /* one run, however large */
    add(s, "large", "app", 31);
    assert_int_equal(hold(s), '-');
    fair_queue_release(s, "flood", &(struct demand){pool, 1, 10}, 5);
    assert_int_equal(hold(s), 'f');
    fair_queue_set_most(s, pool, 1);
    assert_null(fair_queue_why_waiting(s, "flood"));
    end(s);
}

static void fifo_and_priority_within_a_tenant(void **state)
{
    struct fair_queue *s = fair_queue_new(1, 1000);
    const char *app;
    struct demand d;
    char order[5] = "";
    (void)state;
    fair_queue_set_app(s, "t", "low", 0, &(struct demand){0, 1, 1});
    fair_queue_set_app(s, "t", "high", 1, &(struct demand){0, 1, 1});
    add(s, "t", "low", 1);
    add(s, "t", "low", 2);
    add(s, "t", "high", 3);
    add(s, "t", "high", 4);
    for (int i = 0; i < 4; i++) {
        struct file *f = fair_queue_pick(s, &app, &d);
        order[i] = f->file_id[25];
        fair_queue_release(s, "t", &d, 1);
        file_free(f);
    }
    assert_string_equal(order, "3412");
    end(s);
}

static void concurrency_blocking_and_parking(void **state)
{
    struct fair_queue *s = fair_queue_new(100, 100000);
    (void)state;
    fair_queue_set_tenant(s, "t", 1, 2);
    fair_queue_set_app(s, "t", "app", 0, &(struct demand){0, 1, 1});
    for (int i = 0; i < 5; i++)
        add(s, "t", "app", i);
    assert_int_equal(hold(s), 't');
    assert_int_equal(hold(s), 't');
    assert_int_equal(hold(s), '-');
    assert_string_equal(fair_queue_why_waiting(s, "t"), "concurrency");
    fair_queue_release(s, "t", &(struct demand){0, 1, 1}, 1);
    fair_queue_park_app(s, "t", "app", true);
    assert_int_equal(hold(s), '-');
    fair_queue_park_app(s, "t", "app", false);
    fair_queue_block_tenant(s, "t", true);
    assert_int_equal(hold(s), '-');
    fair_queue_block_tenant(s, "t", false);
    assert_int_equal(hold(s), 't');
    end(s);
}

static void a_large_request_is_not_starved(void **state)
{
    struct fair_queue *s = fair_queue_new(4, 1000);
    (void)state;
    fair_queue_set_app(s, "small", "app", 0, &(struct demand){0, 1, 1});
    fair_queue_set_app(s, "large", "app", 0, &(struct demand){0, 4, 1});
    for (int i = 0; i < 10; i++)
        add(s, "small", "app", i);
    for (int i = 0; i < 4; i++)
        assert_int_equal(hold(s), 's');
    add(s, "large", "app", 100);
    for (int i = 0; i < 4; i++) {
        fair_queue_release(s, "small", &(struct demand){0, 1, 1}, 1);
        assert_int_equal(hold(s), i < 3 ? '-' : 'l');
    }
    end(s);
}

static void removal(void **state)
{
    struct fair_queue *s = fair_queue_new(4, 1000);
    (void)state;
    fair_queue_set_app(s, "t", "app", 0, &(struct demand){0, 1, 1});
    struct file *first = add(s, "t", "app", 1), *last = add(s, "t", "app", 2);
    assert_true(fair_queue_remove(s, last));
    assert_false(fair_queue_remove(s, last));
    struct file *third = add(s, "t", "app", 3);
    assert_true(fair_queue_remove(s, first));
    assert_true(fair_queue_remove(s, third));
    assert_int_equal(fair_queue_n_queued(s, "t"), 0);
    file_free(first);
    file_free(last);
    file_free(third);
    end(s);
}

/* Its app waits, others of the tenant do not, and it is the first again afterwards; its room is free meanwhile. */
static void a_held_file_keeps_its_place(void **state)
{
    struct fair_queue *s = fair_queue_new(1, 1000);
    const char *app;
    struct demand d;
    (void)state;
    fair_queue_set_app(s, "t", "held", 1, &(struct demand){0, 1, 1000});
    fair_queue_set_app(s, "t", "other", 0, &(struct demand){0, 1, 1000});
    struct file *first = add(s, "t", "held", 1), *second = add(s, "t", "held", 2), *third = add(s, "t", "other", 3);
    assert_ptr_equal(fair_queue_pick(s, &app, &d), first);
    fair_queue_hold(s, app, first, &d);
    assert_int_equal(fair_queue_n_running(s, NULL), 0);
    assert_int_equal(fair_queue_n_queued(s, "t"), 3);
    assert_ptr_equal(fair_queue_pick(s, &app, &d), third);
    fair_queue_release(s, "t", &d, 1);
    assert_null(fair_queue_pick(s, &app, &d));
    assert_string_equal(fair_queue_why_waiting(s, "t"), "its apps are parked, or wait for their images");
    fair_queue_unhold(s);
    struct file *const order[] = {first, second};
    for (int i = 0; i < 2; i++) {
        assert_ptr_equal(fair_queue_pick(s, &app, &d), order[i]);
        fair_queue_release(s, "t", &d, 1);
        file_free(order[i]);
    }
    file_free(third);
    end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quiet_tenant_is_next),
        cmocka_unit_test(weights_share_service),
        cmocka_unit_test(a_quiet_tenant_need_not_wait_for_cores),
        cmocka_unit_test(dominant_resources),
        cmocka_unit_test(pools_are_apart),
        cmocka_unit_test(a_part_of_a_pool_is_the_most),
        cmocka_unit_test(fifo_and_priority_within_a_tenant),
        cmocka_unit_test(concurrency_blocking_and_parking),
        cmocka_unit_test(a_large_request_is_not_starved),
        cmocka_unit_test(removal),
        cmocka_unit_test(a_held_file_keeps_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
