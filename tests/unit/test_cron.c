/* Known instants around changes of the clock, checked against the published rules of the zones. */
#include "check.h"

#include "base/clk.h"
#include "conf/cron.h"

#include <string.h>

static void expect(const char *text, const char *zone, const char *after, const char *const *times)
{
    struct cron *c = NULL;
    struct err e = {0};
    int64_t at;
    char shown[CLK_RFC3339_SIZE];
    if (cron_new(text, zone, &c, &e) < 0)
        fail_msg("%s: %s", text, e.msg);
    assert_int_equal(clk_parse(after, &at), 0);
    for (; *times; times++) {
        at = cron_next(c, at);
        clk_rfc3339(at, shown);
        shown[16] = 0;
        if (strcmp(shown, *times))
            fail_msg("%s in %s after %s: %s, expected %s", text, zone, after, shown, *times);
    }
    cron_free(c);
}
#define EXPECT(text, zone, after, ...) expect(text, zone, after, (const char *const[]){__VA_ARGS__, NULL})

static void test_fields(void **state)
{
    EXPECT("*/15 * * * *", "UTC", "2026-01-31T12:00:00Z", "2026-01-31T12:15", "2026-01-31T12:30", "2026-01-31T12:45",
           "2026-01-31T13:00");
    EXPECT("0 0 29 feb *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00", "2032-02-29T00:00");
    EXPECT("5,10-12 3 * * *", "UTC", "2026-01-01T03:05:00Z", "2026-01-01T03:10", "2026-01-01T03:11", "2026-01-01T03:12",
           "2026-01-02T03:05");
    EXPECT("0 12 * * MON-fri", "UTC", "2026-11-20T12:00:00Z", "2026-11-23T12:00", "2026-11-24T12:00");
    EXPECT("0 12 * * sat-sun", "UTC", "2026-11-20T12:00:00Z", "2026-11-21T12:00", "2026-11-22T12:00", "2026-11-28T12:00");
    EXPECT("0 12 * * 7", "UTC", "2026-11-20T12:00:00Z", "2026-11-22T12:00", "2026-11-29T12:00");
    EXPECT("30 23 31 12 *", "UTC", "1999-12-31T23:29:59.999Z", "1999-12-31T23:30", "2000-12-31T23:30");
    EXPECT("0-10/5 0 1 */6 *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:05", "2026-01-01T00:10", "2026-07-01T00:00");
}

static void test_days_of_both_kinds(void **state)
{
    /* Both restricted: either. One of them a star: the other. */
    EXPECT("0 0 13 * fri", "UTC", "2026-11-01T00:00:00Z", "2026-11-06T00:00", "2026-11-13T00:00", "2026-11-20T00:00",
           "2026-11-27T00:00", "2026-12-04T00:00", "2026-12-11T00:00", "2026-12-13T00:00");
    EXPECT("0 0 * * fri", "UTC", "2026-11-01T00:00:00Z", "2026-11-06T00:00", "2026-11-13T00:00");
    EXPECT("0 0 13 * *", "UTC", "2026-11-01T00:00:00Z", "2026-11-13T00:00", "2026-12-13T00:00");
}

static void test_nicknames(void **state)
{
    EXPECT("@yearly", "UTC", "2026-05-05T00:00:00Z", "2027-01-01T00:00");
    EXPECT("@annually", "UTC", "2026-05-05T00:00:00Z", "2027-01-01T00:00");
    EXPECT("@monthly", "UTC", "2026-05-05T00:00:00Z", "2026-06-01T00:00");
    EXPECT("@weekly", "UTC", "2026-11-20T00:00:00Z", "2026-11-22T00:00");
    EXPECT(" @Daily ", "UTC", "2026-05-05T00:00:00Z", "2026-05-06T00:00");
    EXPECT("@midnight", "Asia/Kolkata", "2026-05-05T00:00:00Z", "2026-05-05T18:30");
    EXPECT("@hourly", "Asia/Kolkata", "2026-05-05T00:00:00Z", "2026-05-05T00:30", "2026-05-05T01:30");
}

static void test_hours_that_are_left_out(void **state)
{
    /* Vienna, 2026-03-29: at 01:00Z the clock goes from 02:00 to 03:00. */
    EXPECT("30 2 * * *", "Europe/Vienna", "2026-03-27T12:00:00Z", "2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30");
    EXPECT("0,30 2 * * *", "Europe/Vienna", "2026-03-28T12:00:00Z", "2026-03-29T01:00", "2026-03-30T00:00", "2026-03-30T00:30");
    EXPECT("30 * * * *", "Europe/Vienna", "2026-03-28T23:45:00Z", "2026-03-29T00:30", "2026-03-29T01:30", "2026-03-29T02:30");
    EXPECT("0 3 * * *", "Europe/Vienna", "2026-03-28T12:00:00Z", "2026-03-29T01:00", "2026-03-30T01:00");
    /* Half an hour: Lord Howe, 2026-10-04: at 15:30Z on the 3rd 02:00 becomes 02:30. */
    EXPECT("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00:00Z", "2026-10-03T15:30", "2026-10-04T15:15");
    /* A whole day: Apia had no 30th of December 2011. */
    EXPECT("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-29T22:00", "2011-12-30T10:00", "2011-12-30T22:00");
}

static void test_hours_that_come_twice(void **state)
{
    /* Vienna, 2026-10-25: at 01:00Z the clock goes from 03:00 back to 02:00. */
    EXPECT("30 2 * * *", "Europe/Vienna", "2026-10-24T12:00:00Z", "2026-10-25T00:30", "2026-10-26T01:30");
    EXPECT("30 2 * * *", "Europe/Vienna", "2026-10-25T00:45:00Z", "2026-10-26T01:30");
    EXPECT("30 2 * * *", "Europe/Vienna", "2026-10-25T01:10:00Z", "2026-10-26T01:30");
    EXPECT("30 * * * *", "Europe/Vienna", "2026-10-25T00:00:00Z", "2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30");
    EXPECT("0 3 * * *", "Europe/Vienna", "2026-10-24T12:00:00Z", "2026-10-25T02:00", "2026-10-26T02:00");
    EXPECT("*/30 1 * * *", "America/New_York", "2026-11-01T04:00:00Z", "2026-11-01T05:00", "2026-11-01T05:30", "2026-11-02T06:00");
}

static void test_far_years_use_the_rule(void **state)
{
    EXPECT("30 2 * * *", "Europe/Vienna", "2060-03-27T12:00:00Z", "2060-03-28T01:00", "2060-03-29T00:30");
}

static void test_what_is_no_schedule(void **state)
{
    static const struct {
        const char *text, *zone, *says;
    } bad[] = {
        {"", "UTC", "minute is missing"},
        {"* * * *", "UTC", "day of week is missing"},
        {"60 * * * *", "UTC", "not in 0 to 59"},
        {"* 24 * * *", "UTC", "not in 0 to 23"},
        {"* * 0 * *", "UTC", "not in 1 to 31"},
        {"* * * 13 *", "UTC", "not in 1 to 12"},
        {"* * * * 8", "UTC", "not in 0 to 7"},
        {"* * * * * *", "UTC", "behind the five fields"},
        {"5/10 * * * *", "UTC", "step needs a range"},
        {"*/0 * * * *", "UTC", "step must be"},
        {"*/x * * * *", "UTC", "step must be"},
        {"9-5 * * * *", "UTC", "backwards"},
        {"* * * janu *", "UTC", "three-letter name"},
        {"* * * * mo", "UTC", "three-letter name"},
        {"a * * * *", "UTC", "is no number"},
        {"-1 * * * *", "UTC", "is no number"},
        {"1, * * * *", "UTC", "is no number"},
        {"1;2 * * * *", "UTC", "not expected"},
        {"@reboot", "UTC", "none of @yearly"},
        {"@dailyx", "UTC", "none of @yearly"},
        {"0 0 30 2 *", "UTC", "ever matches"},
        {"0 0 31 4,6 *", "UTC", "ever matches"},
        {"@daily", "Mars/Phobos", "no time zone"},
        {"99999999999999999999 * * * *", "UTC", "not in 0"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cron *c = NULL;
        struct err e = {0};
        if (cron_new(bad[i].text, bad[i].zone, &c, &e) != ERR_CONFIG || !strstr(e.msg, bad[i].says))
            fail_msg("\"%s\": \"%s\", expected \"%s\"", bad[i].text, e.msg, bad[i].says);
    }
}

/* Every minute of two years with changes: what comes next is what a search minute by minute finds, but for skipped and repeated
 * hours, which the tests above hold. */
static void test_next_never_goes_back_and_never_leaps(void **state)
{
    static const char *const zones[] = {"Europe/Vienna", "America/St_Johns", "Africa/Casablanca", "Asia/Tehran"};
    for (size_t z = 0; z < 4; z++) {
        struct cron *every = NULL, *daily = NULL;
        int64_t at, day;
        assert_int_equal(cron_new("*/7 * * * *", zones[z], &every, NULL), 0);
        assert_int_equal(cron_new("30 2 * * *", zones[z], &daily, NULL), 0);
        clk_parse("2019-01-01T00:00:00Z", &at);
        day = at;
        for (int i = 0; i < 150000; i++) {
            int64_t next = cron_next(every, at);
            assert_true(next > at && next - at <= 7 * 60000);
            at = next;
        }
        for (int i = 0; i < 730; i++) { /* once a day, whatever the clock does */
            int64_t next = cron_next(daily, day);
            assert_true(next - day >= (i ? 22 : 0) * 3600000LL && next - day <= 26 * 3600000LL);
            day = next;
        }
        cron_free(every);
        cron_free(daily);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_days_of_both_kinds),
        cmocka_unit_test(test_nicknames),
        cmocka_unit_test(test_hours_that_are_left_out),
        cmocka_unit_test(test_hours_that_come_twice),
        cmocka_unit_test(test_far_years_use_the_rule),
        cmocka_unit_test(test_what_is_no_schedule),
        cmocka_unit_test(test_next_never_goes_back_and_never_leaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
