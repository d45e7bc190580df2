/* Specs that are wrong are refused with the column at fault; figures say what was there. */
#include "base/buf.h"
#include "check.h"
#include "read/figures.h"
#include "read/format.h"
#include "read/spec.h"

#include <stdio.h>
#include <string.h>

static void wrong(const char *json, int rule, const char *word)
{
    struct err e = {0};
    struct spec *s = NULL;
    int at = -2, r = spec_parse(json, strlen(json), &s, &at, &e);
    if (r == 0)
        fail_msg("%s passes", json);
    if (!strstr(e.msg, word) || at != rule)
        fail_msg("%s: column %d: %s", json, at, e.msg);
}

static void errors(void **state)
{
    (void)state;
    wrong("{", -1, "malformed");
    wrong("{\"x\":1}", -1, "unknown");
    wrong("{\"csv\":{\"x\":1}}", -1, "unknown");
    wrong("{\"csv\":{\"delimiter\":\"\\n\"}}", -1, "delimiter");
    wrong("{\"csv\":{\"quote\":\"ab\"}}", -1, "quote");
    wrong("{\"csv\":{\"quote\":\",\",\"delimiter\":\",\"}}", -1, "quote");
    wrong("{\"csv\":{\"header_rows\":99}}", -1, "header_rows");
    wrong("{\"csv\":{\"ragged\":\"drop\"}}", -1, "reject|pad|keep_extra");
    wrong("{\"csv\":{\"damaged\":\"drop\"}}", -1, "reject|repair");
    wrong("{\"columns\":[{\"name\":\"a\"},{\"type\":\"int\"}]}", 1, "name");
    wrong("{\"columns\":[{\"name\":\"a\"},{\"name\":\"b\",\"enum\":[1]}]}", 1, "enum");
    wrong("{\"columns\":[{\"name\":\"b\",\"value\":\"x\",\"required\":true}]}", 0, "no rules");
    wrong("{\"columns\":[{\"name\":\"b\",\"max_age_days\":5,\"type\":\"int\"}]}", 0, "age");
    wrong("{\"columns\":[{\"name\":\"b\",\"as\":\"$x\"}]}", 0, "as");
    wrong("{\"on_key_conflict\":\"replace\"}", -1, "key");
    wrong("{\"shard\":1}", -1, "shard");
    wrong("{\"shard\":{\"x\":1}}", -1, "key hashed");
    wrong("{\"shard\":{\"key\":[\"a\"],\"hashed\":\"b\"}}", -1, "none of");
    wrong("{\"shard\":{\"key\":[\"a.\"]}}", -1, "shard.key");
    wrong("{\"key\":[\"a\",\"b\"],\"shard\":{\"key\":[\"b\"]}}", -1, "that order");
    wrong("{\"columns\":[{\"name\":\"x\"},{\"name\":\"b\",\"unique\":true}],\"shard\":{\"key\":[\"x\"]}}", 1, "unless");
    wrong("{\"key\":[\"a\"],\"on_key_conflict\":\"replace\",\"shard\":{\"key\":[\"_id\",\"b\"]}}", -1, "part of key");
}

/* By what rows are stored as, and in the key's order. */
static void shard_keys(void **state)
{
    static const char json[] =
        "{\"columns\":[{\"name\":\"a\",\"as\":\"m.a\"}],\"key\":[\"a\",\"b\"],\"shard\":{\"key\":[\"m.a\"]}}";
    struct spec *s = NULL;
    char *ab[] = {"m.a", "b"}, *ba[] = {"b", "a"};
    (void)state;
    assert_int_equal(spec_parse(json, strlen(json), &s, NULL, NULL), 0);
    assert_true(spec_shard_allows_unique(s, &s->key));
    assert_true(spec_shard_allows_unique(s, &(struct strs){ab, 1}));
    assert_false(spec_shard_allows_unique(s, &(struct strs){ba, 2}));
    assert_false(spec_shard_allows_unique(s, &(struct strs){ab, 0}));
    spec_free(s);
}

static void add(struct figures *f, enum value_type t, const char *text, int64_t i, int64_t line)
{
    struct value v = {.type = t, .p = text, .n = text ? strlen(text) : 0};
    v.i = i;
    figures_add(f, 0, &v, line);
}

static void figures_of_a_column(void **state)
{
    AUTO_BUF struct buf out = {0};
    struct figures *f = figures_new();
    char text[16];
    (void)state;
    figures_column(f, 0, "c");
    for (int i = 0; i < 100000; i++) {
        snprintf(text, sizeof text, "%d", i % 5000);
        add(f, VALUE_int, text, i % 5000, i);
    }
    add(f, VALUE_null, "", 0, 1);
    figures_reject(f, 0, "max");
    json_begin(&out, NULL, '{');
    figures_json(f, 0, &out);
    json_end(&out, '}');
    int distinct = atoi(strstr(out.p, "\"distinct\":") + 11);
    assert_in_range(distinct, 4700, 5300); /* three standard errors */
    assert_non_null(strstr(out.p, "\"rejects_by_rule\":{\"max\":1}"));
    assert_non_null(strstr(out.p, "\"type\":\"int\",\"values\":100000,\"nulls\":1,\"rejects\":1"));
    assert_non_null(strstr(out.p, "\"min\":0,\"max\":4999"));
    add(f, VALUE_string, "zebra", 0, 77);
    assert_string_equal(figures_type(f, 0), "mixed");
    assert_int_equal(figures_changed_at(f, 0), 77);
    figures_free(f);
}

static void formats_by_name(void **state)
{
    static const struct {
        const char *name;
        int format; /* -1: none */
    } cases[] = {{"a.csv", READER_CSV},
                 {"a.tsv", READER_CSV},
                 {"a.b.csv.gz", READER_CSV},
                 {"A.CSV.GZ", READER_CSV},
                 {"a.json", READER_JSON},
                 {"a.jsonl", READER_JSON},
                 {"a.ndjson", READER_JSON},
                 {"a.ndjson.zst", READER_JSON},
                 {"a.Jsonl", READER_JSON},
                 {"a.txt", -1},
                 {"a", -1},
                 {"csv", -1},
                 {"a.csv.bak", -1},
                 {"a.csv.gz.gz", -1},
                 {"", -1},
                 {".", -1}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum reader_format format = (enum reader_format)77;
        int r = format_of_name(cases[i].name, &format);
        assert_int_equal(r, cases[i].format < 0 ? ERR_FORMAT : 0);
        assert_int_equal((int)format, cases[i].format < 0 ? 77 : cases[i].format);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(errors), cmocka_unit_test(shard_keys), cmocka_unit_test(formats_by_name),
                                       cmocka_unit_test(figures_of_a_column)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
