#include "base/hist.h"
#include "base/mem.h"
#include "check.h"
#include "programs/monitor/report.h"
#include "programs/monitor/windows.h"

#include <bson/bson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define NOW 1700000000000

/* ---- reading ---- */

static int parse(const char *json, struct report *r, enum report_refusal *why)
{
    struct err e = {0};
    return report_parse(json, strlen(json), NOW, r, why, &e);
}

static void test_a_report_of_the_schema(void **state)
{
    struct report r;
    enum report_refusal why;
    (void)state;
    assert_int_equal(
        parse("{\"metrics\":{\"processing_rate\":120.5,\"throughput\":24100,\"average_ingestion_time\":0.008,"
              "\"total_ingestion_data_size\":1.5,\"total_number_of_messages\":7000},\"timeframe\":{\"ingestion_start_time\":"
              "1699999000,\"measurement_start_time\":\"2023-11-14 22:13:15.123456\",\"measurement_end_time\":1699999999.5},"
              "\"origin\":{\"streaming_app_id\":\"store\",\"tenant_id\":\"acme\"},\"colour\":[{\"x\":1}]}",
              &r, &why),
        0);
    assert_string_equal(r.tenant, "acme");
    assert_string_equal(r.app, "store");
    assert_true(r.processing_rate == 120.5 && r.throughput == 24100 && r.average_s == 0.008 && r.total_mb == 1.5);
    assert_true(r.began_ms == 1699999000000 && r.to_ms == 1699999999500 && r.from_ms == 1699999995123);
    assert_true(isnan(r.messages) && r.seq == -1 && !*r.instance && !r.n_buckets);
}

static void test_the_same_as_bson(void **state)
{
    struct report r;
    enum report_refusal why;
    struct err e = {0};
    (void)state;
    bson_t *b = BCON_NEW("metrics", "{", "processing_rate", BCON_INT32(5), "}", "timeframe", "{", "measurement_end_time",
                         BCON_DATE_TIME(NOW - 10), "}", "instance_id", BCON_UTF8("i1"), "seq", BCON_INT64(3), "counters", "{",
                         "messages", BCON_DOUBLE(12), "histogram", "[", "[", BCON_INT32(3), BCON_INT32(9), "]", "]", "}");
    assert_int_equal(report_parse(bson_get_data(b), b->len, NOW, &r, &why, &e), 0);
    assert_true(r.processing_rate == 5 && r.seq == 3 && r.messages == 12 && r.to_ms == NOW - 10);
    assert_int_equal(r.n_buckets, 1);
    assert_int_equal(r.buckets[0].bucket, 3);
    assert_int_equal(r.buckets[0].n, 9);
    bson_destroy(b);
}

static void test_refused_and_named(void **state)
{
    static const struct {
        const char *json;
        enum report_refusal why;
    } cases[] = {
        {"", REPORT_malformed},
        {"{", REPORT_malformed},
        {"[1]", REPORT_malformed},
        {"hello", REPORT_malformed},
        {"{\"metrics\":5}", REPORT_malformed},
        {"{\"metrics\":{\"throughput\":\"fast\"}}", REPORT_malformed},
        {"{\"origin\":{\"tenant_id\":5}}", REPORT_malformed},
        {"{\"timeframe\":{\"measurement_end_time\":\"yesterday\"}}", REPORT_malformed},
        {"{\"timeframe\":{\"measurement_start_time\":1699999999,\"measurement_end_time\":1699999990}}", REPORT_malformed},
        {"{\"counters\":{\"histogram\":[[1,2],[1,3]]}}", REPORT_malformed},
        {"{\"counters\":{\"histogram\":[[1]]}}", REPORT_malformed},
        {"{\"counters\":{\"histogram\":[[1.5,2]]}}", REPORT_malformed},
        {"{\"counters\":{\"histogram\":[[5000,2]]}}", REPORT_huge},
        {"{\"instance_id\":\"01234567890123456789012345678901234567890123456789012345678901234567890\"}", REPORT_huge},
        {"{\"metrics\":{\"processing_rate\":1e300}}", REPORT_huge},
        {"{\"metrics\":{\"processing_rate\":-1}}", REPORT_negative},
        {"{\"seq\":-3}", REPORT_negative},
        {"{\"metrics\":{\"processing_rate\":{\"$numberDouble\":\"NaN\"}}}", REPORT_not_a_number},
        {"{\"metrics\":{\"average_ingestion_time\":{\"$numberDouble\":\"Infinity\"}}}", REPORT_not_a_number},
        {"{\"metrics\":{\"average_ingestion_time\":\"NaN\"}}", REPORT_not_a_number},
        {"{\"timeframe\":{\"measurement_end_time\":1699999000}}", REPORT_stale},
        {"{\"timeframe\":{\"measurement_end_time\":1700000100}}", REPORT_future},
        {"{\"timeframe\":{\"measurement_end_time\":1700000000,\"measurement_start_time\":1700009999}}", REPORT_future},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct report r;
        struct err e = {0};
        enum report_refusal why;
        assert_int_equal(report_parse(cases[i].json, strlen(cases[i].json), NOW, &r, &why, &e), ERR_FORMAT);
        if (why != cases[i].why)
            fail_msg("%s: refused as %s, not %s", cases[i].json, report_refusal_name(why), report_refusal_name(cases[i].why));
        assert_true(e.msg[0]);
    }
    struct report r;
    struct err e = {0};
    enum report_refusal why;
    AUTO_FREE char *big = xmalloc(REPORT_MAX_BYTES + 1);
    memset(big, ' ', REPORT_MAX_BYTES + 1);
    assert_int_equal(report_parse(big, REPORT_MAX_BYTES + 1, NOW, &r, &why, &e), ERR_FORMAT);
    assert_int_equal(why, REPORT_huge);
}

/* Objects in objects, as many as go into a report: nothing recurses until the stack is gone. */
static void test_nested_without_end(void **state)
{
    enum { DEEP = 8000 };
    struct report r;
    struct err e = {0};
    enum report_refusal why;
    AUTO_FREE char *json = xmalloc(REPORT_MAX_BYTES);
    (void)state;
    size_t n = 0;
    while (n + 5 < REPORT_MAX_BYTES) {
        memcpy(json + n, "{\"a\":", 5);
        n += 5;
    }
    assert_int_equal(report_parse(json, n, NOW, &r, &why, &e), ERR_FORMAT);
    AUTO_FREE unsigned char *b = xcalloc(1, REPORT_MAX_BYTES);
    size_t size = 5; /* from the innermost outwards: length, 3, "", NUL, inner, NUL */
    for (int i = 0; i < DEEP; i++)
        size += 7;
    for (size_t at = 0, len = size; len > 5; at += 6, len -= 7) {
        uint32_t v = (uint32_t)len;
        memcpy(b + at, &v, 4);
        b[at + 4] = 3;
    }
    uint32_t five = 5;
    memcpy(b + (size_t)DEEP * 6, &five, 4);
    report_parse(b, size, NOW, &r, &why, &e); /* whatever it says */
}

/* ---- windows ---- */

static struct report counters(double messages, double busy_s)
{
    struct report r;
    enum report_refusal why;
    assert_int_equal(parse("{}", &r, &why), 0);
    r.messages = messages;
    r.busy_s = busy_s;
    return r;
}

static int take(struct windows *w, const struct report *r, const char *id, int64_t now_ms, enum report_refusal *why)
{
    struct err e = {0};
    return windows_take(w, r, id, 3, now_ms, NOW + now_ms, why, &e);
}

static void test_counters_and_a_lost_report(void **state)
{
    struct windows w = {0};
    struct windows_figures f;
    enum report_refusal why;
    (void)state;
    for (int s = 0; s <= 20; s++) {
        struct report r = counters(1000 + 100 * s, 50 + 2 * s);
        r.seq = s;
        if (s != 7 && s != 8) /* lost */
            assert_int_equal(take(&w, &r, "a", 1000000 + s * 1000, &why), 0);
    }
    windows_figures(&w, 1020500, &f);
    assert_in_range((int)f.messages_per_s, 95, 112);
    assert_true(fabs(f.acks_per_busy_s - 50) < 0.5 && fabs(f.avg_s - 0.02) < 1e-3);
    assert_true(fabs(f.p99_s - 0.02) < 0.02 * HIST_ACCURACY * 1.01);
    assert_int_equal(f.reporting, 1);
    windows_fini(&w);
}

static void test_stale_twice_and_begun_anew(void **state)
{
    struct windows w = {0};
    enum report_refusal why;
    struct report r = counters(100, 1);
    (void)state;
    strcpy(r.boot, "one");
    r.seq = 5;
    assert_int_equal(take(&w, &r, "a", 1000, &why), 0);
    assert_int_equal(take(&w, &r, "a", 1100, &why), ERR_FORMAT);
    assert_int_equal(why, REPORT_stale);
    r.seq = 6;
    r.messages = 50;
    assert_int_equal(take(&w, &r, "a", 1200, &why), ERR_FORMAT);
    assert_int_equal(why, REPORT_stale);
    strcpy(r.boot, "two"); /* a new process, which counts from nothing */
    r.seq = 0;
    assert_int_equal(take(&w, &r, "a", 1300, &why), 0);
    struct windows_figures f;
    windows_figures(&w, 1400, &f);
    assert_true(f.messages_per_s == 50);
    assert_int_equal(take(&w, &r, "b", 1300, &why), 0);
    assert_int_equal(take(&w, &r, "c", 1300, &why), 0);
    assert_int_equal(take(&w, &r, "d", 1300, &why), ERR_FORMAT);
    assert_int_equal(why, REPORT_many_instances);
    windows_fini(&w);
}

static int alive_is(const char *id, void *arg)
{
    return *id == 'u' ? -1 : strchr(arg, *id) != NULL;
}

static void test_silent_gone_and_unknown(void **state)
{
    struct windows w = {0};
    enum report_refusal why;
    struct windows_figures f;
    const char *who;
    (void)state;
    for (int s = 0; s < 10; s++)
        for (const char *id = "abu"; *id; id++) {
            struct report r = counters(s, s);
            char name[2] = {*id, 0};
            assert_int_equal(take(&w, &r, name, 1000 + s * 1000, &why), 0);
        }
    assert_int_equal(windows_expire(&w, 12000, alive_is, "ab", &who), 0);
    assert_int_equal(windows_expire(&w, 20000, alive_is, "a", &who), 2); /* a runs, b is gone, u: who knows */
    assert_int_equal(w.instances.n, 2);
    windows_figures(&w, 20000, &f);
    assert_true(isnan(f.messages_per_s) && isnan(f.errors)); /* not zero */
    assert_int_equal(windows_expire(&w, 80000, alive_is, "a", &who), 1);
    assert_string_equal(who, "a");
    assert_int_equal(w.instances.n, 1);
    windows_fini(&w);
}

static void test_rates_are_not_counted_twice(void **state)
{
    struct windows w = {0};
    struct windows_figures f;
    enum report_refusal why;
    struct report r = counters(NAN, NAN);
    (void)state;
    r.processing_rate = 10;
    r.average_s = 0.05;
    for (int s = 0; s <= 30; s++) { /* each measures over ten seconds, and comes each second */
        r.from_ms = NOW + s * 1000 - 10000;
        r.to_ms = NOW + s * 1000;
        assert_int_equal(take(&w, &r, "a", 5000000 + s * 1000, &why), 0);
    }
    windows_figures(&w, 5030000, &f);
    assert_true(fabs(f.messages_per_s - 10) < 1.5);
    assert_true(fabs(f.acks_per_busy_s - 20) < 0.1 && fabs(f.avg_s - 0.05) < 1e-6);
    windows_fini(&w);
}

static void test_histograms_add_up(void **state)
{
    struct hist a = {0}, b = {0};
    (void)state;
    assert_true(isnan(hist_quantile(&a, 0.5)));
    for (int i = 1; i <= 1000; i++)
        hist_add(i % 2 ? &a : &b, i * 100.0, 1);
    hist_merge(&a, &b);
    static const double q[] = {0.01, 0.25, 0.5, 0.9, 0.99};
    for (size_t i = 0; i < sizeof q / sizeof *q; i++) {
        double exact = (floor(q[i] * 999) + 1) * 100;
        assert_true(fabs(hist_quantile(&a, q[i]) - exact) <= exact * HIST_ACCURACY + 1e-6);
    }
    hist_add(&a, -1, 1);
    hist_add(&a, NAN, 1);
    hist_add(&a, 1e300, 1);
    assert_int_equal(a.n, 1003);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_report_of_the_schema),     cmocka_unit_test(test_the_same_as_bson),
        cmocka_unit_test(test_refused_and_named),          cmocka_unit_test(test_nested_without_end),
        cmocka_unit_test(test_counters_and_a_lost_report), cmocka_unit_test(test_stale_twice_and_begun_anew),
        cmocka_unit_test(test_silent_gone_and_unknown),    cmocka_unit_test(test_rates_are_not_counted_twice),
        cmocka_unit_test(test_histograms_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
