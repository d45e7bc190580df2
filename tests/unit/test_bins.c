/* Histograms whose bins become wider: no number is lost, the order does not count, and parts add up to the whole. */
#include "check.h"

#include "lib/read/bins.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t total(const struct bins *b)
{
    int64_t n = 0;
    for (int k = 0; k < BINS; k++)
        n += b->n[k];
    return n;
}

/* The numbers that a bin says are between its edges are. */
static void fits(const struct bins *b, const double *v, size_t n)
{
    assert_int_equal(total(b), n);
    for (int k = 0; k < BINS; k++) {
        int64_t within = 0;
        for (size_t i = 0; i < n; i++)
            within += v[i] >= bins_edge(b, k) && v[i] < bins_edge(b, k + 1);
        assert_int_equal(within, b->n[k]);
    }
}

static void same(const struct bins *a, const struct bins *b)
{
    int a_first, a_last, b_first, b_last;
    assert_true(bins_range(a, &a_first, &a_last) && bins_range(b, &b_first, &b_last));
    assert_int_equal(a->exponent, b->exponent);
    assert_int_equal(a_last - a_first, b_last - b_first);
    assert_true(bins_edge(a, a_first) == bins_edge(b, b_first));
    assert_memory_equal(a->n + a_first, b->n + b_first, (size_t)(a_last - a_first + 1) * sizeof *a->n);
}

enum { N = 2000 };

static void make(double *v, int kind)
{
    srand48(kind);
    for (int i = 0; i < N; i++) {
        double u = drand48();
        v[i] = kind == 0   ? i
               : kind == 1 ? -i * 0.1
               : kind == 2 ? 1.7e12 + floor(u * 86400000)
               : kind == 3 ? pow(10, 40 * u - 20) * (i % 2 ? 1 : -1)
               : kind == 4 ? (i % 3 ? 0 : 1e300)
               : kind == 5 ? (i ? 1e-9 * u : 0)
                           : floor(u * 100);
    }
}

static void all_are_counted_where_they_belong(void **state)
{
    (void)state;
    for (int kind = 0; kind < 7; kind++) {
        double v[N];
        struct bins b = {0};
        int first, last;
        make(v, kind);
        for (int i = 0; i < N; i++)
            bins_add(&b, v[i]);
        fits(&b, v, N);
        assert_true(bins_range(&b, &first, &last));
        if (kind != 4)
            assert_true(last - first >= BINS / 2 - 1); /* not coarser than need be */
    }
}

static void the_order_changes_nothing_and_parts_add_up(void **state)
{
    (void)state;
    for (int kind = 0; kind < 7; kind++) {
        double v[N];
        struct bins all = {0}, backwards = {0}, parts[3] = {{0}, {0}, {0}}, sum = {0};
        make(v, kind);
        for (int i = 0; i < N; i++) {
            bins_add(&all, v[i]);
            bins_add(&backwards, v[N - 1 - i]);
            bins_add(&parts[i % 3 ? i % 2 : 2], v[i]);
        }
        for (int p = 0; p < 3; p++)
            for (int k = 0; k < BINS; k++)
                assert_true(bins_add_bin(&sum, parts[p].exponent, parts[p].first + k, parts[p].n[k]));
        same(&all, &backwards);
        fits(&sum, v, N);
        same(&all, &sum);
    }
}

static void what_is_no_number_is_left_out(void **state)
{
    struct bins b = {0};
    int first, last;
    (void)state;
    bins_add(&b, NAN);
    bins_add(&b, INFINITY);
    assert_false(bins_range(&b, &first, &last));
    bins_add(&b, -0.0);
    bins_add(&b, 5e-324);
    bins_add(&b, -1.7976931348623157e308);
    bins_add(&b, 1.7976931348623157e308);
    bins_add(&b, -INFINITY);
    assert_int_equal(total(&b), 4);
}

/* As from a tenant's file. */
static void bins_that_cannot_be_are_refused(void **state)
{
    struct bins b = {0}, none = {0};
    (void)state;
    assert_false(bins_add_bin(&b, 5000, 0, 1) || bins_add_bin(&b, -5000, 0, 1) || bins_add_bin(&b, 0, INT64_MAX, 1) ||
                 bins_add_bin(&b, 0, INT64_MIN, 1) || bins_add_bin(&b, 0, 0, -1));
    assert_memory_equal(&b, &none, sizeof b);
    for (int i = 0; i < 10000; i++) {
        int exponent = (int)(mrand48() % 1200);
        int64_t index = (int64_t)(mrand48() * (INT64_C(1) << (i % 22)));
        if (bins_add_bin(&b, exponent, index, INT64_C(1) << i % 53))
            bins_add(&b, ldexp((double)index, exponent));
    }
    assert_true(total(&b) > 0);
    b = none;
    assert_true(bins_add_bin(&b, 0, 7, INT64_MAX) && total(&b) == UINT32_MAX); /* a count stays there */
    bins_add(&b, 7.5);
    bins_add(&b, 8.5);
    assert_int_equal(total(&b), (int64_t)UINT32_MAX + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_are_counted_where_they_belong),
        cmocka_unit_test(the_order_changes_nothing_and_parts_add_up),
        cmocka_unit_test(what_is_no_number_is_left_out),
        cmocka_unit_test(bins_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
