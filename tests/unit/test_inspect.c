/* What batchmgr believes of an inspector that was taken over: nothing that cannot be, and no text that could do anything. */
#include "base/buf.h"
#include "check.h"
#include "programs/batchmgr/inspect_reply_check.h"

#include "base/mem.h"
#include "read/src.h"

#include <string.h>

static const struct inspect_reply good = {.status = INSPECT_OK, .raw_bytes = 10, .bytes = 10, .rows = 2, .columns = 2};

static void counts(void **state)
{
    (void)state;
    struct inspect_reply re = good;
    inspect_reply_check(&re, 10);
    assert_int_equal(re.status, INSPECT_OK);
    int64_t *fields[] = {&re.raw_bytes, &re.bytes, &re.rows, &re.columns, &re.longest_row_bytes, &re.rejects};
    const int64_t bad[] = {-1, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
            re = good;
            *fields[i] = bad[k];
            inspect_reply_check(&re, 10);
            assert_int_equal(re.status, INSPECT_FAILED);
            assert_true(re.rows == 0 && re.bytes == 0 && strstr(re.detail, "no sense"));
        }
    re = good;
    re.rejects = 3; /* of two rows */
    inspect_reply_check(&re, 10);
    assert_int_equal(re.status, INSPECT_FAILED);
    re = good;
    inspect_reply_check(&re, 9); /* more than the file has */
    assert_int_equal(re.status, INSPECT_FAILED);
    re = good;
    re.status = 77;
    inspect_reply_check(&re, 10);
    assert_int_equal(re.status, INSPECT_FAILED);
}

static void texts(void **state)
{
    (void)state;
    struct inspect_reply re = good;
    re.status = INSPECT_REFUSED;
    strcpy(re.reason, "max_rows");
    memset(re.detail, '\x1b', sizeof re.detail); /* no end either */
    inspect_reply_check(&re, 10);
    assert_int_equal(re.status, INSPECT_REFUSED);
    assert_null(strchr(re.detail, '\x1b'));
    assert_int_equal(strlen(re.detail), sizeof re.detail - 1);
    const char *reasons[] = {"", "../x", "a b", "MAX", "a\n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xff"};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        re = good;
        re.status = INSPECT_REFUSED;
        memcpy(re.reason, reasons[i], strlen(reasons[i]) + 1);
        inspect_reply_check(&re, 10);
        assert_int_equal(re.status, INSPECT_FAILED);
    }
}

static void figures(void **state)
{
    (void)state;
    const char *taken[] = {"{\"a\":1}", "{\"a\":\"\\\\\",\"b\":{\"c\":[1,{}]}}", "{\"a\":\"}{\\\"\"}",
                           "{\"\xc3\xbc\":[null,true,false,-1.5e-7,2E3]}"};
    const char *refused[] = {"",           "{}",          "{\"a\":1}{\"b\":2}", "{\"a\":1},\"b\":{}", "{\"a\":\"\n\"}",
                             "{\"a\":1}}", "{\"a\":NaN}", "{\"a\":\"\xff\"}",   "{\"a\":1",           "[1]",
                             "{\"a\"}",    "{\"a\":\"}",  "{\"a\":1}]{",        "{\"a\":nan}",        "{ }",
                             "{,}",        "{\"a\":1,}",  "{\"a\":-Infinity}"};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        AUTO_FREE char *p = inspect_figures(taken[i], strlen(taken[i]));
        assert_non_null(p);
        assert_true(strlen(p) == strlen(taken[i]) - 2 && !strncmp(p, taken[i] + 1, strlen(p)));
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        AUTO_FREE char *p = inspect_figures(refused[i], strlen(refused[i]));
        if (p)
            fail_msg("%s", refused[i]);
    }
    AUTO_BUF struct buf deep = {0};
    for (int i = 0; i < 60000; i++)
        buf_adds(&deep, i ? "[" : "{\"a\":");
    for (int i = 0; i < 59999; i++)
        buf_adds(&deep, "]");
    buf_adds(&deep, "}");
    AUTO_FREE char *p = inspect_figures(deep.p, deep.n);
    assert_null(p);
}

static void time_limits(void **state)
{
    (void)state;
    struct inspect_request rq = {.compression = SRC_PLAIN, .max_decompressed_bytes = INT64_C(10) << 30, .max_expansion = 100};
    assert_int_equal(inspect_limit_ms(&rq, -1, 0), 60000);
    assert_int_equal(inspect_limit_ms(&rq, -1, 4 << 20), 61000);
    assert_int_equal(inspect_limit_ms(&rq, 7, INT64_MAX), 7000);
    assert_true(inspect_limit_ms(&rq, -1, INT64_MAX) > 0 && inspect_limit_ms(&rq, INT64_MAX, 0) > 0);
    rq.compression = SRC_ZSTD;
    assert_int_equal(inspect_limit_ms(&rq, -1, 1), (60 + 64) * 1000); /* 256 MiB */
    assert_int_equal(inspect_limit_ms(&rq, -1, INT64_MAX), (60 + 2560) * 1000);
    rq.max_expansion = INT64_MAX - 1;
    assert_int_equal(inspect_limit_ms(&rq, -1, INT64_MAX / 2), (60 + 2560) * 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(texts),
        cmocka_unit_test(figures),
        cmocka_unit_test(time_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
