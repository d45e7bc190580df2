/* traceparent and tracestate (W3C Trace Context), as strangers send them; and the ids of a file's trace. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/trace_context.h"
#include "check.h"
#include "host/trace_ids.h"

#include <string.h>

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN   "00f067aa0ba902b7"
#define PARENT "00-" TRACE "-" SPAN "-01"

static void parents(void **state)
{
    static const char *const none[] = {
        "",
        "00",
        "00-" TRACE "-" SPAN,                                     /* no flags */
        "00-" TRACE "-" SPAN "-1",                                /* half of them */
        PARENT "-",                                               /* 00 has nothing behind them */
        PARENT "-x",                                              /* likewise */
        PARENT " ",                                               /* likewise */
        " " PARENT,                                               /* nor before it */
        PARENT "," PARENT,                                        /* one alone */
        "ff-" TRACE "-" SPAN "-01",                               /* a version that is none */
        "0g-" TRACE "-" SPAN "-01",                               /* no hex digit */
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01",        /* upper case */
        "00-" TRACE "-00F067AA0BA902B7-01",                       /* likewise */
        "00-00000000000000000000000000000000-" SPAN "-01",        /* nothing */
        "00-" TRACE "-0000000000000000-01",                       /* likewise */
        "00-" TRACE "-" SPAN "-0x",                               /* no hex digit */
        "00_" TRACE "-" SPAN "-01",                               /* no dash */
        "01-" TRACE "-" SPAN "-01x",                              /* a later version has a dash there */
        "00-4bf92f3577b34da6a3ce929d0e0e4-36-00f067aa0ba902b7-01" /* no hex digit */
    };
    struct trace_context c;
    char text[TRACE_PARENT_SIZE];
    (void)state;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        if (trace_parent_read(none[i], &c) == 0)
            fail_msg("%s is taken for a traceparent", none[i]);
    assert_true(trace_parent_read(NULL, &c) < 0);
    assert_int_equal(trace_parent_read(PARENT, &c), 0);
    assert_string_equal(c.trace, TRACE);
    assert_string_equal(c.span, SPAN);
    assert_true(c.sampled);
    assert_int_equal(trace_parent_read("00-" TRACE "-" SPAN "-00", &c), 0);
    assert_false(c.sampled);
    assert_int_equal(trace_parent_read("00-" TRACE "-" SPAN "-fe", &c), 0);
    assert_false(c.sampled);
    assert_int_equal(trace_parent_read("cc-" TRACE "-" SPAN "-0b-what-comes-later", &c), 0);
    assert_true(c.sampled);
    trace_parent_write(&c, text);
    assert_string_equal(text, PARENT);
}

static void is_state(const char *text, const char *want)
{
    char got[TRACE_STATE_BYTES + 1];
    trace_state_read(text, got);
    assert_string_equal(got, want);
}

static void states(void **state)
{
    AUTO_BUF struct buf many = {0}, some = {0}, large = {0}, left = {0};
    (void)state;
    is_state(NULL, "");
    is_state("", "");
    is_state(" , ,", "");
    is_state("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
    is_state(" a=1 ,\tb=x y ,,", "a=1,b=x y");
    is_state("0tenant@sys-tem*/_=!~", "0tenant@sys-tem*/_=!~");
    static const char *const none[] = {
        "a",    "a=",     "=1",   "A=1",     "1a=1",  "a=b=c", "a=\x7f",  "a=\xc3\xa9",          "a=1,a=2",
        "a@=1", "a@1b=1", "@b=1", "a@b@c=1", "a b=1", "a=1\n", "a\x01=1", "a@waytoolongsystem=1"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        is_state(none[i], "");
    is_state("a=1;", "a=1;");
    for (int i = 0; i < 33; i++)
        buf_addf(&many, "k%d=%d,", i, i);
    is_state(many.p, ""); /* 32 at most */
    buf_addf(&large, "first=%0200d,", 1);
    for (int i = 0; i < 9; i++) {
        buf_addf(&some, "%sk%d=%050d", i ? "," : "", i, i);
        buf_addf(&left, "%sk%d=%050d", i ? "," : "", i, i);
    }
    buf_adds(&large, some.p); /* 683 characters: the long one goes */
    is_state(large.p, left.p);
    buf_addf(&some, ",last=%0100d", 1); /* and of short ones, the last */
    is_state(some.p, left.p);
}

static void kept(void **state)
{
    (void)state;
    AUTO_FREE char *with = trace_keep(PARENT, "a=1"), *without = trace_keep(PARENT, "a"), *none = trace_keep("x", "a=1");
    AUTO_FREE char *again = trace_keep_again(with), *worse = trace_keep_again(PARENT " a=\n"), *nothing = trace_keep_again(NULL);
    assert_string_equal(with, PARENT " a=1");
    assert_string_equal(without, PARENT);
    assert_null(none);
    assert_string_equal(again, with);
    assert_string_equal(worse, PARENT);
    assert_null(nothing);
    assert_string_equal(trace_kept_state(with), "a=1");
    assert_string_equal(trace_kept_state(without), "");
    assert_string_equal(trace_kept_state(NULL), "");
}

static void ids(void **state)
{
    struct trace_context a, again, other, step, below;
    (void)state;
    trace_of(NULL, "file1", &a);
    trace_of(NULL, "file1", &again);
    trace_of(NULL, "file2", &other);
    trace_of_step(NULL, "file1", "run", "r1", &step);
    trace_of(PARENT " a=1", "file1", &below);
    assert_string_equal(a.trace, again.trace);
    assert_string_equal(a.span, again.span);
    assert_string_not_equal(a.trace, other.trace);
    assert_string_equal(step.trace, a.trace);
    assert_string_not_equal(step.span, a.span);
    assert_true(a.sampled);
    assert_string_equal(below.trace, TRACE);
    assert_string_not_equal(below.span, SPAN);
    trace_of("00-" TRACE "-" SPAN "-00", "file1", &below);
    assert_false(below.sampled);
}

static void packed(void **state)
{
    static const char *const none[] = {NULL, "", "x", "00-" TRACE "-0000000000000000-01"};
    static const unsigned char zeros[TRACE_PACKED_BYTES];
    unsigned char p[TRACE_PACKED_BYTES];
    char text[TRACE_PARENT_SIZE];
    (void)state;
    assert_true(trace_parent_pack(PARENT, p));
    assert_true(trace_parent_unpack(p, text));
    assert_string_equal(text, PARENT);
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        memset(p, 1, sizeof p);
        assert_false(trace_parent_pack(none[i], p));
        assert_memory_equal(p, zeros, sizeof p);
    }
    assert_false(trace_parent_unpack(zeros, text));
    memset(p, 0xff, sizeof p);
    assert_false(trace_parent_unpack(p, text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parents), cmocka_unit_test(states), cmocka_unit_test(kept),
                                       cmocka_unit_test(packed), cmocka_unit_test(ids)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
