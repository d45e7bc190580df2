/* Curves: means in slots of time (base/trend.h), and as characters (term/plot.h). How far something is (term/progress.h). */
#include "check.h"

#include "base/buf.h"
#include "base/trend.h"
#include "term/plot.h"
#include "term/progress.h"
#include "term/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { T0 = 1000 * TREND_SLOT_MS };

static void test_means_in_slots(void **state)
{
    (void)state;
    struct trend t = {0};
    const int64_t slot = trend_slot(T0);
    assert_true(isnan(trend_at(&t, slot)));
    trend_take(&t, T0, NAN);
    assert_true(isnan(trend_at(&t, slot)));
    trend_take(&t, T0, 1);
    trend_take(&t, T0 + 1000, 3);
    trend_take(&t, T0 + 2 * TREND_SLOT_MS, 8);
    assert_true(trend_at(&t, slot) == 2 && isnan(trend_at(&t, slot + 1)) && trend_at(&t, slot + 2) == 8);
    assert_true(isnan(trend_at(&t, slot + 3)) && isnan(trend_at(&t, slot - 1)));
    trend_take(&t, T0, 100); /* a clock that went back */
    assert_true(trend_at(&t, slot) == 2);
    trend_fill(&t, slot + 1, 5);
    trend_fill(&t, slot, NAN);
    trend_fill(&t, slot - TREND_SLOTS, 7);
    trend_fill(&t, -3, 7);
    assert_true(trend_at(&t, slot) == 2 && trend_at(&t, slot + 1) == 5);
    double v[TREND_SLOTS];
    trend_values(&t, T0 + 2 * TREND_SLOT_MS, v);
    assert_true(v[TREND_SLOTS - 1] == 8 && v[TREND_SLOTS - 2] == 5 && v[TREND_SLOTS - 3] == 2 && isnan(v[TREND_SLOTS - 4]));
    AUTO_BUF struct buf b = {0};
    trend_json(&t, T0 + 3 * TREND_SLOT_MS, "x", &b);
    assert_string_equal(b.p, "\"x\":[2,5,8,null]");
    trend_take(&t, T0 + 1000LL * TREND_SLOT_MS, 4); /* all of it is too long ago */
    trend_values(&t, T0 + 1000LL * TREND_SLOT_MS, v);
    assert_true(v[TREND_SLOTS - 1] == 4 && isnan(v[TREND_SLOTS - 2]) && isnan(v[0]) && isnan(trend_at(&t, slot)));
    trend_take(&t, T0 + (1000LL + TREND_SLOTS - 1) * TREND_SLOT_MS, 6);
    trend_values(&t, T0 + (1000LL + TREND_SLOTS - 1) * TREND_SLOT_MS, v);
    assert_true(v[0] == 4 && v[TREND_SLOTS - 1] == 6);
}

static void is_row(const double *v, size_t n, double top, size_t height, size_t row, bool blocks, const char *wanted)
{
    AUTO_BUF struct buf b = {0};
    plot_row(&b, v, n, top, height, row, blocks);
    assert_string_equal(b.p, wanted);
}

static void test_characters(void **state)
{
    (void)state;
    const double v[] = {NAN, 0, 0.001, 4, 8, INFINITY, -1};
    is_row(v, 7, 8, 1, 0, true, " ▁▂▅██▁");
    is_row(v, 7, 8, 1, 0, false, " _.=##_");
    is_row(v, 7, 8, 2, 1, true, "   ▁██ ");
    is_row(v, 7, 8, 2, 0, true, " ▁▂███▁");
    is_row(v, 0, 8, 1, 0, true, "");
    is_row(v, 2, 0, 1, 0, true, " ▁"); /* nothing but zero: nothing is divided by it */
    assert_true(plot_top(v, 5) == 8 && plot_top(v, 1) == 0 && plot_top(v, 0) == 0);
    double to[4];
    plot_resample((const double[]){1, 3, NAN, NAN, 5, NAN, 2, 2}, 8, to, 4);
    assert_true(to[0] == 2 && isnan(to[1]) && to[2] == 5 && to[3] == 2);
    plot_resample((const double[]){1, 2}, 2, to, 4);
    assert_true(to[0] == 1 && to[1] == 1 && to[2] == 2 && to[3] == 2);
}

static void is_short(const char *text, size_t columns, const char *wanted)
{
    char *shown = table_shorten(text, columns);
    assert_string_equal(shown, wanted);
    assert_true(table_width(shown) <= columns);
    free(shown);
}

static void test_shortened_in_the_middle(void **state)
{
    (void)state;
    is_short("abcdef", 6, "abcdef");
    is_short("abcdefg", 6, "abc…fg");
    is_short("abcdefg", 1, "…");
    is_short("abcdefg", 0, "");
    is_short("äöüßäöü", 4, "äö…ü");
    is_short("漢字漢字漢字", 7, "漢…字"); /* of two columns each */
    is_short("ab\xff\xfe\xfd", 4, "ab…\xfd");
    is_short("", 3, "");
}

static void is_text(const char *phase, int64_t done, int64_t first, int64_t total, const char *unit, int64_t ms, const char *wanted)
{
    char *shown = progress_text(phase, done, first, total, unit, ms);
    assert_string_equal(shown, wanted);
    free(shown);
}

static void test_how_far_it_is(void **state)
{
    (void)state;
    is_text("sending", 50000000, 0, 100000000, "B", 5000, "sending [##########          ]  50% 50.0 MB 10.0 MB/s ETA 6 s");
    is_text("sending", 50000000, 0, 0, "B", 5000, "sending 50.0 MB 10.0 MB/s"); /* of how much is not known */
    is_text("sending", 0, 0, -1, "B", 0, "sending 0.0 MB");
    is_text("sending", 0, 0, 0, "B", 60000, "sending 0.0 MB");
    is_text("loading", 7, 5, 5, "rows", 1000, "loading [####################] 100% 7 rows 2/s"); /* more than there was to be */
    is_text("loading", 3, 5, 10, "rows", 1000, "loading [######              ]  30% 3 rows");    /* back */
    is_text("loading", -4, 0, 10, "rows", 1000, "loading [                    ]   0% -4 rows");
    is_text("x", INT64_MAX, 0, INT64_MAX, "rows", 1000,
            "x [####################] 100% 9223372036854775807 rows 9223372036854775808/s");
    is_text("waiting", 1, 0, 9, NULL, 125000, "waiting 2 min");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_means_in_slots), cmocka_unit_test(test_characters),
                                       cmocka_unit_test(test_shortened_in_the_middle), cmocka_unit_test(test_how_far_it_is)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
