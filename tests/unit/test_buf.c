#include "base/buf.h"
#include "base/json.h"
#include "check.h"

#include <math.h>
#include <string.h>

static void writes_valid_json(void **state)
{
    AUTO_BUF struct buf b = {0};
    (void)state;
    json_begin(&b, NULL, '{');
    json_str(&b, "a", "x\"\\\n\x01");
    json_i64(&b, "b", -5);
    json_i64_or_null(&b, "c", -1);
    json_f64(&b, "d", NAN);
    json_bool(&b, "e", true);
    json_time(&b, "f", 1);
    json_begin(&b, "g", '[');
    json_str(&b, NULL, "1");
    json_str(&b, NULL, NULL);
    json_end(&b, ']');
    json_raw(&b, "h", "{\"i\":1}");
    json_end(&b, '}');
    assert_string_equal(b.p, "{\"a\":\"x\\\"\\\\\\n\\u0001\",\"b\":-5,\"c\":null,\"d\":null,\"e\":true,"
                             "\"f\":\"1970-01-01T00:00:00.001Z\",\"g\":[\"1\",null],\"h\":{\"i\":1}}");
}

static void replaces_bytes_that_are_not_utf8(void **state)
{
    AUTO_BUF struct buf b = {0};
    (void)state;
    json_strn(&b, NULL, "a\xff\xc3\xa9\xed\xa0\x80", 7);
    assert_string_equal(b.p, "\"a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void no_control_character_reaches_a_terminal(void **state)
{
    AUTO_BUF struct buf b = {0};
    (void)state;
    json_str(&b, NULL,
             "\x7f \xc2\x9b"
             "2J \xc2\xa0"); /* DEL, CSI of C1, a no-break space */
    assert_string_equal(b.p, "\"\\u007f \\u009b2J \xc2\xa0\"");
    buf_reset(&b);
    buf_adds(&b, "kept\nnot\n\x1b[2J\xc2\x9b"
                 "2J\xff\xc3\xa9");
    buf_make_plain(&b, 5);
    assert_string_equal(b.p, "kept\nnot??[2J??2J?\xc3\xa9");
}

/* Against a table of the standard's edge cases. */
static void knows_utf8(void **state)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {{"", true},
                 {"plain ascii longer than eight", true},
                 {"\xc3\xa9", true},
                 {"\xc0\x80", false},
                 {"\xc1\xbf", false},
                 {"\xe0\x9f\xbf", false},
                 {"\xe0\xa0\x80", true},
                 {"\xed\x9f\xbf", true},
                 {"\xed\xa0\x80", false},
                 {"\xf0\x8f\xbf\xbf", false},
                 {"\xf0\x90\x80\x80", true},
                 {"\xf4\x8f\xbf\xbf", true},
                 {"\xf4\x90\x80\x80", false},
                 {"\xf5\x80\x80\x80", false},
                 {"\x80", false},
                 {"12345678\xc3", false}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(utf8_valid(cases[i].text, strlen(cases[i].text)), cases[i].valid);
}

static void consumes_from_the_front(void **state)
{
    AUTO_BUF struct buf b = {0};
    (void)state;
    buf_addf(&b, "%s-%d", "hello", 7);
    buf_consume(&b, 6);
    assert_string_equal(b.p, "7");
    buf_reset(&b);
    assert_int_equal(b.n, 0);
}

static void reads_json(void **state)
{
    static const char text[] = "{\"s\":\"x\",\"i\":4294967296,\"d\":1.5,\"b\":true,\"l\":[{\"k\":\"v\"}]}";
    struct err e = {0};
    bson_iter_t it;
    bson_t item;
    (void)state;
    AUTO_BSON bson_t *doc = json_parse(text, strlen(text), &e);
    assert_non_null(doc);
    assert_string_equal(json_get_str(doc, "s", ""), "x");
    assert_int_equal(json_get_i64(doc, "i", 0), 4294967296);
    assert_true(json_get_bool(doc, "b", false));
    assert_int_equal(json_get_i64(doc, "absent", 9), 9);
    assert_int_equal(json_get_i64(doc, "s", 9), 9);
    assert_true(json_get_iter(doc, "l", &it) && bson_iter_next(&it) && json_iter_doc(&it, &item));
    assert_string_equal(json_get_str(&item, "k", ""), "v");
    assert_null(json_parse("{", 1, &e));
    assert_int_equal(e.code, ERR_FORMAT);
    assert_null(json_parse("{", 1, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_valid_json),
        cmocka_unit_test(replaces_bytes_that_are_not_utf8),
        cmocka_unit_test(no_control_character_reaches_a_terminal),
        cmocka_unit_test(knows_utf8),
        cmocka_unit_test(consumes_from_the_front),
        cmocka_unit_test(reads_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
