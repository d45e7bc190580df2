/* Figures that are kept as text and added up say what figures of all rows at once say. */
#include "base/json.h"
#include "base/mem.h"
#include "check.h"
#include "read/quality.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DAY = 20000 };

static void add_text(struct quality *q, const char *column, const char *text)
{
    struct value v = {.type = VALUE_string, .p = text, .n = strlen(text)};
    size_t i = figures_find(q->figures, column);
    figures_add(q->figures, i, &v, 1);
}

static void add_int(struct quality *q, const char *column, int64_t n)
{
    struct value v = {.type = VALUE_int, .i = n};
    size_t i = figures_find(q->figures, column);
    figures_add(q->figures, i, &v, 1);
}

/* Appends q's text to what `sum` has. */
static size_t add_kept(struct quality *sum, const struct quality *q)
{
    AUTO_BUF struct buf text = {0};
    struct err e = {0};
    quality_keep(q, &text);
    AUTO_BSON bson_t *doc = json_parse(text.p, text.n, &e);
    if (!doc)
        fail_msg("%s: %.200s", e.msg, text.p);
    assert_true(quality_add_kept(sum, doc));
    return text.n;
}

static bson_t *shown(const struct quality *q)
{
    AUTO_BUF struct buf text = {0};
    quality_show(q, NULL, &text);
    bson_t *doc = json_parse(text.p, text.n, NULL);
    assert_non_null(doc);
    return doc;
}

static int64_t figure(const bson_t *doc, const char *path)
{
    bson_iter_t it, found;
    bson_iter_init(&it, doc);
    if (!bson_iter_find_descendant(&it, path, &found))
        fail_msg("there is no %s", path);
    return bson_iter_as_int64(&found);
}

static void parts_are_the_whole(void **state)
{
    struct quality parts[2], sum;
    (void)state;
    quality_init(&sum, DAY);
    for (int k = 0; k < 2; k++) {
        quality_init(&parts[k], DAY);
        for (int i = 0; i < 6000; i++) {
            char text[32];
            snprintf(text, sizeof text, "value %d", k * 3000 + i); /* half of them are in both */
            add_text(&parts[k], "text", text);
            add_int(&parts[k], "number", k * 3000 + i);
            add_int(&parts[k], "few", i % 7);
        }
        figures_reject(parts[k].figures, 1, "type");
        figures_reject(parts[k].figures, -1, k ? "max_rows" : "type");
        parts[k].messages = parts[k].rows = 6000;
        parts[k].rejects = 2;
        add_kept(&sum, &parts[k]);
        quality_fini(&parts[k]);
    }
    AUTO_BSON bson_t *doc = shown(&sum);
    assert_int_equal(figure(doc, "messages"), 12000);
    assert_int_equal(figure(doc, "rejects"), 4);
    assert_int_equal(figure(doc, "rejects_by_rule.type"), 3);
    assert_int_equal(figure(doc, "rejects_by_rule.max_rows"), 1);
    assert_int_equal(figure(doc, "by_column.text.values"), 12000);
    assert_int_equal(figure(doc, "by_column.number.min"), 0);
    assert_int_equal(figure(doc, "by_column.number.max"), 8999);
    assert_int_equal(figure(doc, "by_column.number.rejects"), 2);
    assert_int_equal(figure(doc, "by_column.few.distinct"), 7);
    const int64_t distinct = figure(doc, "by_column.text.distinct");
    assert_true(distinct > 9000 * 0.9 && distinct < 9000 * 1.1); /* three times what 1024 registers are off */
    quality_fini(&sum);
}

static void what_has_no_room_is_coarser_or_left_out(void **state)
{
    (void)state;
    for (int columns = 5; columns <= 300; columns *= 4) {
        struct quality q, sum;
        quality_init(&q, DAY);
        quality_init(&sum, DAY);
        for (int i = 0; i < 3000; i++)
            for (int k = 0; k < columns; k++) {
                char name[200];
                snprintf(name, sizeof name, "%0*d", 100, k);
                add_int(&q, name, i);
            }
        assert_true(add_kept(&sum, &q) <= QUALITY_MAX_BYTES);
        AUTO_BSON bson_t *doc = shown(&sum);
        AUTO_FREE char *path = xasprintf("by_column.%0*d.distinct", 100, 0);
        const int64_t distinct = figure(doc, path);
        assert_true(distinct > 3000 * 0.6 && distinct < 3000 * 1.4);
        assert_true(figures_n_columns(sum.figures) == (size_t)columns || columns > 80);
        assert_true(figures_n_columns(sum.figures) > 50 || columns <= 50);
        quality_fini(&q);
        quality_fini(&sum);
    }
}

static void a_column_of_two_kinds_is_mixed(void **state)
{
    struct quality a, b, sum;
    (void)state;
    quality_init(&a, DAY);
    quality_init(&b, DAY);
    quality_init(&sum, DAY);
    add_int(&a, "x", 5);
    add_text(&b, "x", "five");
    add_kept(&sum, &a);
    add_kept(&sum, &b);
    assert_string_equal(figures_type(sum.figures, 0), "mixed");
    AUTO_BSON bson_t *doc = shown(&sum);
    assert_int_equal(figure(doc, "by_column.x.types.int"), 1);
    assert_int_equal(figure(doc, "by_column.x.types.string"), 1);
    quality_fini(&a);
    quality_fini(&b);
    quality_fini(&sum);
}

static void names_are_bounded(void **state)
{
    struct quality q;
    char name[300];
    (void)state;
    quality_init(&q, DAY);
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    add_int(&q, name, 1);
    assert_int_equal(figures_n_columns(q.figures), 0);
    name[255] = 0;
    add_int(&q, name, 1);
    assert_int_equal(figures_n_columns(q.figures), 1);
    quality_fini(&q);
}

static void what_makes_no_sense_is_left_out(void **state)
{
    static const char *const texts[] = {
        "{\"day\":20001,\"messages\":5}",
        "{\"day\":20000,\"messages\":-5,\"rows\":1e300,\"until_ms\":9e18,\"columns\":7,\"rejects_by_rule\":{\"a\":1}}",
        "{\"day\":20000,\"columns\":[1,{},{\"name\":1},{\"name\":\"a\"},{\"name\":\"a\",\"types\":[]},{\"name\":\"a\",\"types\":{"
        "\"int\":-1,"
        "\"what\":3}}]}",
        "{\"day\":20000,\"columns\":[{\"name\":\"a\",\"types\":{\"int\":9e18,\"date\":1,\"double\":1,\"string\":1},\"ms_min\":-"
        "9e18,"
        "\"ms_max\":9223372036854775807,\"int_min\":\"x\",\"min\":\"NaN\",\"text_min\":5,\"registers\":\"oooo\"}]}",
        "{\"day\":20000,\"rejects_by_rule\":[{\"rule\":\"A B\",\"n\":1},{\"rule\":\"\",\"n\":1},{\"rule\":\"type\",\"n\":-3}]}",
    };
    struct quality q;
    (void)state;
    quality_init(&q, DAY);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        AUTO_BSON bson_t *doc = json_parse(texts[i], strlen(texts[i]), NULL);
        assert_non_null(doc);
        assert_int_equal(quality_add_kept(&q, doc), i > 0);
        AUTO_BSON bson_t *out = shown(&q);
        assert_true(figure(out, "messages") == 0 && figure(out, "rows") >= 0);
    }
    quality_fini(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_the_whole),
        cmocka_unit_test(what_has_no_room_is_coarser_or_left_out),
        cmocka_unit_test(a_column_of_two_kinds_is_mixed),
        cmocka_unit_test(names_are_bounded),
        cmocka_unit_test(what_makes_no_sense_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
