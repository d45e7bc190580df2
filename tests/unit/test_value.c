/* Text to values: what is one, what is none, and that inference gives every text back. */
#include "check.h"
#include "read/decode.h"
#include "read/scan.h"
#include "read/value.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void takes(enum value_type t, const char *text, double expected)
{
    struct value v;
    double d = 0;
    if (!value_parse(t, text, strlen(text), &v))
        fail_msg("\"%s\" is no %s", text, value_type_name(t));
    if (t == VALUE_bool)
        d = v.b;
    else if (t == VALUE_date || t == VALUE_datetime)
        d = (double)v.i;
    else
        assert_true(value_number(&v, &d));
    if (d != expected)
        fail_msg("\"%s\" as %s is %.17g, not %.17g", text, value_type_name(t), d, expected);
}

static void refuses(enum value_type t, const char *text)
{
    struct value v;
    if (value_parse(t, text, strlen(text), &v))
        fail_msg("\"%s\" passes for a %s", text, value_type_name(t));
}

static void numbers(void **state)
{
    (void)state;
    takes(VALUE_int, " +42 ", 42);
    takes(VALUE_int, "-2147483648", INT32_MIN);
    takes(VALUE_int, "007", 7);
    refuses(VALUE_int, "2147483648");
    takes(VALUE_long, "-9223372036854775808", (double)INT64_MIN);
    const char *const no_numbers[] = {"",    "-",           "1.0", "0x10", "1 2", "9223372036854775808", "99999999999999999999999",
                                      "1e3", "\xc2\xa0\x31"};
    for (size_t i = 0; i < sizeof no_numbers / sizeof *no_numbers; i++)
        refuses(VALUE_long, no_numbers[i]);
    takes(VALUE_double, "1e5", 1e5);
    takes(VALUE_double, ".5", .5);
    takes(VALUE_double, "5.", 5);
    takes(VALUE_double, "-1.7976931348623157e308", -1.7976931348623157e308);
    takes(VALUE_double, "0.1", 0.1);
    takes(VALUE_double, "123456789012345678901234567890", 123456789012345678901234567890.0);
    const char *const no_doubles[] = {"nan", "inf", "1e999", ".", "e5", "1e", "1,5", "1.2.3", "0x1p3"};
    for (size_t i = 0; i < sizeof no_doubles / sizeof *no_doubles; i++)
        refuses(VALUE_double, no_doubles[i]);
    takes(VALUE_decimal, "1.10", 1.1);
    refuses(VALUE_decimal, "NaN");
    refuses(VALUE_decimal, "1.00000000000000000000000000000000000000000001"); /* more digits than there are */
    takes(VALUE_bool, "YES", 1);
    takes(VALUE_bool, "f", 0);
    refuses(VALUE_bool, "2");
}

static void dates(void **state)
{
    (void)state;
    takes(VALUE_date, "1970-01-02", 86400000);
    takes(VALUE_date, "1969/12/31", -86400000);
    takes(VALUE_date, "29.02.2000", 951782400000.0);
    takes(VALUE_date, "20240229", 1709164800000.0);
    takes(VALUE_datetime, "2024-02-29", 1709164800000.0);
    takes(VALUE_datetime, "2024-02-29T01:02:03.456789Z", 1709168523456.0);
    takes(VALUE_datetime, "2024-02-29 01:02", 1709168520000.0);
    takes(VALUE_datetime, "2024-02-29T01:02:03+01:30", 1709163123000.0);
    takes(VALUE_datetime, "2024-02-29T01:02:03 -0130", 1709173923000.0);
    takes(VALUE_datetime, "1709168523", 1709168523000.0);
    takes(VALUE_datetime, "1709168523456", 1709168523456.0);
    const char *const none[] = {"",
                                "2023-02-29",
                                "2024-13-01",
                                "2024-00-10",
                                "2024-04-31",
                                "0000-01-01",
                                "2024-2-3",
                                "2024-02/03",
                                "today",
                                "2024-02-29T25:00",
                                "2024-02-29T01:60",
                                "2024-02-29T01:02:60Z",
                                "2024-02-29T01",
                                "2024-02-29T01:02:03.Z",
                                "2024-02-29T01:02+1",
                                "2024-02-29X01:02",
                                "2024-02-29T01:02:03Zx",
                                "03/04/2024"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        refuses(VALUE_datetime, none[i]);
    refuses(VALUE_date, "2024-02-29T00:00Z");
}

/* A foreign decimal point in the program's locale changes nothing. */
static void locales_do_not_matter(void **state)
{
    (void)state;
    if (!setlocale(LC_ALL, "de_DE.UTF-8"))
        setlocale(LC_ALL, "C.UTF-8");
    takes(VALUE_double, "1234567890123456.5", 1234567890123456.5);
    setlocale(LC_ALL, "C");
}

static void print_inferred(const struct value *v, size_t decimals, char *out, size_t size)
{
    if (v->type == VALUE_int || v->type == VALUE_long)
        snprintf(out, size, "%lld", (long long)v->i);
    else if (v->type == VALUE_double)
        snprintf(out, size, "%.*f", (int)decimals, v->f);
    else if (v->type == VALUE_bool)
        snprintf(out, size, "%s", v->b ? "true" : "false");
    else
        snprintf(out, size, "%.*s", (int)v->n, v->p);
}

/* Whatever type is found, printing it gives the text back. */
static void inference_gives_every_text_back(void **state)
{
    static const char alphabet[] = "0123456789012345678900..-+e ";
    unsigned seed = 5;
    size_t typed = 0;
    (void)state;
    for (int i = 0; i < 300000; i++) {
        char text[32], back[400];
        size_t n = 1 + (size_t)rand_r(&seed) % 24;
        for (size_t k = 0; k < n; k++)
            text[k] = alphabet[(size_t)rand_r(&seed) % (sizeof alphabet - 1 - (i % 2) * 4)];
        text[n] = 0;
        struct value v;
        value_infer(text, n, &v);
        const char *point = strchr(text, '.');
        print_inferred(&v, point ? strlen(point) - 1 : 0, back, sizeof back);
        assert_string_equal(text, back);
        typed += v.type != VALUE_string;
    }
    assert_true(typed > 10000);
}

static void encodings(void **state)
{
    static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";
    static const unsigned char le[] = {'a', 0, 0xe9, 0, 0xac, 0x20, 0x3d, 0xd8, 0x00, 0xde, 'z', 0};
    (void)state;
    for (size_t piece = 1; piece <= sizeof le; piece++) {
        struct decoder d = {.encoding = ENC_UTF16LE};
        char out[128];
        size_t n = 0;
        for (size_t at = 0; at < sizeof le; at += piece)
            n += decode(&d, le + at, at + piece < sizeof le ? piece : sizeof le - at, at + piece >= sizeof le, out + n);
        assert_int_equal(n, sizeof text - 1);
        assert_memory_equal(out, text, n);
        assert_int_equal(decode_source_bytes(ENC_UTF16LE, out, n), sizeof le);
    }
    struct decoder d = {.encoding = ENC_WINDOWS1252};
    char out[32];
    size_t at, n = decode(&d, (const unsigned char *)"\x80\xe9\x81", 3, true, out);
    assert_memory_equal(out, "\xe2\x82\xac\xc3\xa9\xc2\x81", n);
    assert_int_equal(decode_source_bytes(ENC_WINDOWS1252, out, n), 3);
    d = (struct decoder){.encoding = ENC_UTF16BE};
    n = decode(&d,
               (const unsigned char *)"\xd8\x00\x00"
                                      "a\x01",
               5, true, out); /* a lone surrogate, and half a unit at the end */
    assert_int_equal(scan_text(out, n, &at), TEXT_NOT_UTF8);
    assert_int_equal(encoding_parse("ISO_8859-1"), ENC_LATIN1);
    assert_true(encoding_parse("utf-7") < 0);
}

static void scanning(void **state)
{
    uint32_t places[400];
    char text[400];
    unsigned seed = 3;
    (void)state;
    for (int i = 0; i < 2000; i++) {
        size_t n = (size_t)rand_r(&seed) % sizeof text, from = n ? (size_t)rand_r(&seed) % n : 0, k = 0, at = 0;
        size_t n_set = 1 + (size_t)rand_r(&seed) % 5;
        for (size_t j = 0; j < n; j++)
            text[j] = "abcdefgh,;\"\n\\"[rand_r(&seed) % 13];
        size_t found = scan_index((const unsigned char *)",\n\";\\", n_set, text, from, n, places);
        for (size_t j = from; j < n; j++)
            if (memchr(",\n\";\\", text[j], n_set))
                assert_int_equal(places[k++], j);
        assert_int_equal(found, k);
        assert_int_equal(scan_text(text, n, &at), TEXT_OK);
        if (n) {
            size_t bad = (size_t)rand_r(&seed) % n;
            text[bad] = i % 2 ? 0 : (char)0xc3;
            if (i % 2 || bad + 1 == n || (text[bad + 1] & 0x80) == 0) {
                assert_int_equal(scan_text(text, n, &at), i % 2 ? TEXT_NUL : TEXT_NOT_UTF8);
                assert_int_equal(at, bad);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(dates),
        cmocka_unit_test(locales_do_not_matter),
        cmocka_unit_test(inference_gives_every_text_back),
        cmocka_unit_test(encodings),
        cmocka_unit_test(scanning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
