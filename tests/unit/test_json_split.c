/* JSON files are split the same however they are read, damage costs what it must, and what was cut off is refused. */
#include "base/buf.h"
#include "base/mem.h"
#include "check.h"
#include "read/json_split.h"

#include <stdlib.h>
#include <string.h>

/* One line a record: "line:offset text", with " !damage" behind it; then "end" or the error. `step` bytes are read at a time; of
 * records longer than `most` only the rest is seen, as "...". */
static char *split(const char *text, size_t step, size_t most)
{
    struct buf out = {0};
    struct json_split j = {0};
    struct json_row row;
    struct err e = {0};
    size_t n = strlen(text);
    struct window w = {.p = xstrdup(text), .line = 1};
    for (;;) {
        int r = json_split(&j, &w, &row, &e);
        if (r == JSON_MORE) {
            assert_false(w.end);
            if (w.n - w.at > most)
                json_discard(&j, &w);
            w.end = w.n == n;
            w.n = w.n + step < n ? w.n + step : n;
        } else if (r == JSON_ROW) {
            assert_true(row.n <= row.next && row.next <= w.n - w.at && row.spot <= row.n);
            buf_addf(&out, "%lld:%lld %.*s", (long long)w.line, (long long)w.offset, (int)row.n, row.skipped ? "..." : w.p + w.at);
            buf_addf(&out, "%s%s\n", row.damage ? " !" : "", row.damage ? row.damage : "");
            window_advance_text(&w, row.next);
        } else {
            buf_adds(&out, r < 0 ? e.msg : "end");
            break;
        }
    }
    free(w.p);
    return out.p;
}

static void check(const char *text, const char *expected)
{
    for (size_t step = 1; step <= strlen(text) + 1; step++) {
        char *got = split(text, step, SIZE_MAX);
        if (strcmp(got, expected) != 0)
            fail_msg("%zu bytes at a time: %s\ngot:\n%s\nexpected:\n%s", step, text, got, expected);
        free(got);
    }
}

static void arrays(void **state)
{
    (void)state;
    check("[]", "end");
    check(" \n[ ] \n", "end");
    check("[{\"a\":1}]", "1:1 {\"a\":1}\nend");
    check("[\n {\"a\":1},\n {\"a\":[{}, \"}],{\\\"\"]}\n]\n", "2:3 {\"a\":1}\n3:13 {\"a\":[{}, \"}],{\\\"\"]}\nend");
    check("[1, \"x]\", [{}],null,{\"a\":1}]",
          "1:1 1 !not a JSON object\n1:4 \"x]\" !not a JSON object\n1:10 [{}] !not a JSON object\n"
          "1:15 null !not a JSON object\n1:20 {\"a\":1}\nend");
    check("[{\"a\": 1 {\"b\":2}},{\"a\":1}]", "1:1 {\"a\": 1 {\"b\":2}}\n1:18 {\"a\":1}\nend"); /* malformed, but one */
}

static void broken_arrays(void **state)
{
    (void)state;
    check("[", "line 1: the array is not closed: it is cut off");
    check("[{\"a\":1},{\"a\":2}", "1:1 {\"a\":1}\n1:9 {\"a\":2}\nline 1: the array is not closed: it is cut off");
    check("[{\"a\":1},", "1:1 {\"a\":1}\nline 1: the array is not closed: it is cut off");
    check("[{\"a\":1},\n{\"a\"", "1:1 {\"a\":1}\nline 2: an element of the array begins here and is cut off");
    check("[{\"a\":\"x}]", "line 1: an element of the array begins here and is cut off");
    check("[12", "line 1: an element of the array begins here and is cut off");
    check("[\"x", "line 1: an element of the array begins here and is cut off");
    check("[{\"a\":1}]\n[{\"a\":2}]", "1:1 {\"a\":1}\nline 2: something stands behind the array");
    check("[{\"a\":1}] garbage", "1:1 {\"a\":1}\nline 1: something stands behind the array");
    check("[{\"a\":1}]]", "1:1 {\"a\":1}\nline 1: something stands behind the array");
    check("[]{}", "line 1: something stands behind the array");
    check("[{\"a\":1}\n{\"a\":2}]", "1:1 {\"a\":1}\nline 2: no comma between two elements of the array");
    check("[{\"a\":1},]", "1:1 {\"a\":1}\nline 1: the array ends behind a comma");
    check("[,{\"a\":1}]", "line 1: a comma where an object of the array should be");
    check("[{\"a\":1},,{\"a\":1}]", "1:1 {\"a\":1}\nline 1: a comma where an object of the array should be");
    check("[}", "line 1: no object of the array begins here");
    check("[{\"a\":1,\n{\"a\":2}]", "line 2: the brackets in this element of the array do not match");
}

static void objects(void **state)
{
    (void)state;
    check("", "end");
    check(" \n\n ", "end");
    check("{\"a\":1}\n\n  {\"a\":2}\r\n{\"a\":3}", "1:0 {\"a\":1}\n3:9   {\"a\":2}\n4:20 {\"a\":3}\nend");
    check("{\"a\":1}{\"a\":2} {\"a\":3}\n{}", "1:0 {\"a\":1}\n1:7 {\"a\":2}\n1:15 {\"a\":3}\n2:23 {}\nend");
    check("{\n  \"a\": [\n    {\n      \"b\": \"}\"\n    }\n  ]\n}\n{\n}\n",
          "1:0 {\n  \"a\": [\n    {\n      \"b\": \"}\"\n    }\n  ]\n}\n8:44 {\n}\nend");
    check("{\"a\":\n{\"b\":[\n{},\n{}]}}\n", "1:0 {\"a\":\n{\"b\":[\n{},\n{}]}}\nend");
    check("7\nnull\n[{}]\n{}\n", "1:0 7\n2:2 null\n3:7 [{}]\n4:12 {}\nend"); /* what reads rows says that they are no objects */
}

static void damaged_lines(void **state)
{
    (void)state;
    check("{\"a\":1\n{\"a\":2}\n", "1:0 {\"a\":1 !malformed JSON: the object is not closed on its line\n2:7 {\"a\":2}\nend");
    check("{\"a\":1,\r\n\n {\"a\":2}\n",
          "1:0 {\"a\":1, !malformed JSON: the object is not closed on its line\n3:10  {\"a\":2}\nend");
    check("{\"a\":{\"b\":1}\n{\"a\":2}\n",
          "1:0 {\"a\":{\"b\":1} !malformed JSON: the object is not closed on its line\n2:13 {\"a\":2}\nend");
    check("{\"a\":\"x\n{\"a\":2}\n", "1:0 {\"a\":\"x !malformed JSON: a string is not closed on its line\n2:8 {\"a\":2}\nend");
    check("{\"a\" {\"b\":1}}\n{}\n",
          "1:0 {\"a\" {\"b\":1}} !malformed JSON: something begins here that may not stand here\n2:14 {}\nend");
    check("{\"a\":[1}]\n{}\n", "1:0 {\"a\":[1}] !malformed JSON: the brackets of this object do not match\n2:10 {}\nend");
    check("{\"a\":1}}\n{}\n", "1:0 {\"a\":1}} !something stands behind the JSON object\n2:9 {}\nend");
    check("{\"a\":1},\n{} x {}\n{}", "1:0 {\"a\":1}, !something stands behind the JSON object\n"
                                     "2:9 {} x {} !something stands behind the JSON object\n3:17 {}\nend");
    check("{\"a\":1\n", "1:0 {\"a\":1 !malformed JSON: the object is not closed on its line\nend");
}

static void cut_off(void **state)
{
    (void)state;
    check("{\"a\":1}\n{\"a\":", "1:0 {\"a\":1}\nline 2: an object begins here and is cut off");
    check("{\"a\":1}\n{\"a\":2", "1:0 {\"a\":1}\nline 2: an object begins here and is cut off");
    check("{\"a\":1,\n", "line 1: an object begins here and is cut off");
    check("{\n \"a\":1\n", "line 1: an object begins here and is cut off");
    check("{\n \"a\":1\n}\n{\n", "1:0 {\n \"a\":1\n}\nline 4: an object begins here and is cut off");
    check("{\n \"a\": [1}\n}\n{}\n", "line 2: malformed JSON: the brackets of this object do not match");
    check("{\n}\n{ \"a\": [1}\n}\n{}\n", "1:0 {\n}\nline 3: malformed JSON: the brackets of this object do not match");
}

/* What is too long is passed over to its end, and nothing within it is taken for a record. */
static void too_long(void **state)
{
    static const char *const texts[] = {
        "{\"a\":[{\"b\":\"xxxxxxxxxxxxxxxx}\\\"\"},{\"c\":[[[[[[[[]]]]]]]]}]}",
        "{\"a\":[\n{\"b\":\"xxxxxxxxxxxxxxxx\"},\n{\"c\":2}]\n}",
        "{\"aaaaaaaaaaaaaaaaaaa\" {} {} {}}",
        "xxxxxxxxxxxxxxxxxxxx{}{}{}{}{}{} {} {} {}",
        "{}                                      x {} {}",
        "{\"a\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "{\"a\":{\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\":1}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (size_t step = 1; step < 12; step++) {
            AUTO_FREE char *text = xasprintf("{}\n%s\n{\"z\":1}\n", texts[i]), *got = split(text, step, 12);
            const char *rest = strchr(got, '\n') + 1, *last = strstr(rest, "\n");
            if (strncmp(got, "1:0 {}\n", 7) != 0 || !last || strncmp(strchr(last + 1, ' '), " {\"z\":1}\nend", 12) != 0)
                fail_msg("%zu bytes at a time: %s\ngot:\n%s", step, text, got);
        }
    for (size_t step = 1; step < 12; step++) {
        AUTO_FREE char *in_array =
            split("[{\"a\":1},{\"a\":[{\"b\":\"xxxxxxxxxxx}\\\"\"},{\"c\":[[]]}]},\"xxxxxxxxxxxxxxxxxx\",{\"z\":1}]", step, 12);
        const char *last = strstr(in_array, " {\"z\":1}\nend");
        if (!last || strncmp(in_array, "1:1 {\"a\":1}\n", 12) != 0)
            fail_msg("%zu bytes at a time: got:\n%s", step, in_array);
        AUTO_FREE char *cut = split("{\"a\":\n\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\",\"b\":[1", step, 12);
        assert_non_null(strstr(cut, "cut off"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays),        cmocka_unit_test(broken_arrays), cmocka_unit_test(objects),
        cmocka_unit_test(damaged_lines), cmocka_unit_test(cut_off),       cmocka_unit_test(too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
