/* Figures as text: names, labels with any bytes, values, histograms, what there is no room for. */
#include "base/mem.h"
#include "base/prom.h"
#include "check.h"

#include <math.h>
#include <string.h>

static const struct prom_family total = {"x_bytes_total", PROM_COUNTER, "Bytes."}, gauge = {"x_age_seconds", PROM_GAUGE, "Age."},
                                hist = {"x_seconds", PROM_HISTOGRAM, "Time."};
static const struct prom_bound bounds[] = {{"0.5", 0.5}, {"1.0", 1}};

static void families(void **state)
{
    AUTO_BUF struct buf b = {0};
    struct prom p;
    (void)state;
    prom_init(&p, &b, false, 1000);
    prom_family(&p, &gauge); /* nothing of it */
    prom_family(&p, &total);
    prom_sample(&p, NULL, 12);
    prom_sample(&p, "a=\"b\"", 0.25);
    prom_sample(&p, "a=\"c\"", NAN);
    assert_string_equal(
        b.p, "# TYPE x_bytes_total counter\n# HELP x_bytes_total Bytes.\nx_bytes_total 12\nx_bytes_total{a=\"b\"} 0.25\n");
    buf_reset(&b);
    prom_init(&p, &b, true, 1000);
    prom_family(&p, &total);
    prom_sample(&p, NULL, 999999999999999);
    prom_family(&p, &gauge);
    prom_sample(&p, "", -1.5);
    assert_string_equal(
        b.p, "# TYPE x_bytes counter\n# UNIT x_bytes bytes\n# HELP x_bytes Bytes.\nx_bytes_total 999999999999999\n"
             "# TYPE x_age_seconds gauge\n# UNIT x_age_seconds seconds\n# HELP x_age_seconds Age.\nx_age_seconds -1.5\n");
}

static void labels(void **state)
{
    AUTO_BUF struct buf b = {0};
    (void)state;
    prom_label(&b, "a", "x\"y\\z\n");
    prom_label(&b, "b", "\xc3\xa4\xff\xc3");
    prom_label(&b, "c", "");
    assert_string_equal(b.p, "a=\"x\\\"y\\\\z\\n\",b=\"\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\",c=\"\"");
}

static void histograms(void **state)
{
    static const uint64_t counts[] = {2, 0, 3}, none[] = {0, 0, 0};
    const struct prom_exemplar x = {"run_id", "r1", 7.5, 1700000000042};
    AUTO_BUF struct buf b = {0};
    struct prom p;
    (void)state;
    prom_init(&p, &b, true, 1000);
    prom_family(&p, &hist);
    prom_histogram(&p, "t=\"a\"", bounds, 2, none, 0, NULL);
    assert_int_equal(b.n, 0);
    prom_histogram(&p, "t=\"a\"", bounds, 2, counts, 30.5, &x);
    assert_string_equal(b.p, "# TYPE x_seconds histogram\n# UNIT x_seconds seconds\n# HELP x_seconds Time.\n"
                             "x_seconds_bucket{t=\"a\",le=\"0.5\"} 2\nx_seconds_bucket{t=\"a\",le=\"1.0\"} 2\n"
                             "x_seconds_bucket{t=\"a\",le=\"+Inf\"} 5 # {run_id=\"r1\"} 7.5 1700000000.042\n"
                             "x_seconds_sum{t=\"a\"} 30.5\nx_seconds_count{t=\"a\"} 5\n");
    buf_reset(&b);
    prom_init(&p, &b, false, 1000); /* has no exemplars */
    prom_family(&p, &hist);
    prom_histogram(&p, NULL, bounds, 2, counts, 1, &x);
    assert_null(strchr(strstr(b.p, "x_seconds_bucket"), '#'));
    assert_non_null(strstr(b.p, "x_seconds_bucket{le=\"+Inf\"} 5\n"));
}

/* Whole series are left out, and counted; what was there before does not count. */
static void room(void **state)
{
    AUTO_BUF struct buf b = {0};
    struct prom p;
    (void)state;
    buf_adds(&b, "earlier text that is longer than all of the room that there is\n");
    prom_init(&p, &b, false, 60);
    prom_family(&p, &gauge);
    for (int i = 0; i < 10; i++)
        prom_sample(&p, NULL, i);
    assert_int_equal(p.n_left_out, 9);
    assert_non_null(strstr(b.p, "x_age_seconds 0\n"));
    assert_null(strstr(b.p, "x_age_seconds 1\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(families), cmocka_unit_test(labels), cmocka_unit_test(histograms),
                                       cmocka_unit_test(room)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
