/* Decisions of the remote command line. */
#include "check.h"

#include "base/mem.h"
#include "programs/remote/agreed.h"
#include "programs/remote/http.h"
#include "programs/remote/listing.h"
#include "programs/remote/profiles.h"
#include "programs/remote/send.h"

#include <string.h>

static void test_pauses_double_up_to_a_bound(void **state)
{
    int64_t before = 0;
    (void)state;
    for (int n = 1; n < 100; n++) {
        int64_t least = http_backoff_ms(n, 0), most = least;
        for (uint32_t random = 0; random < 20000; random += 7) {
            int64_t ms = http_backoff_ms(n, random);
            assert_true(ms >= least);
            most = ms > most ? ms : most;
        }
        assert_true(least >= before && most <= 15000 && most <= 2 * least + 1 && most > least);
        before = least;
    }
    assert_int_equal(http_backoff_ms(1, 0), 125);
}

static void test_names_are_escaped(void **state)
{
    AUTO_BUF struct buf b = {0};
    (void)state;
    http_escape(&b, "a b/c%?&=ä~-_.9");
    assert_string_equal(b.p, "a%20b%2Fc%25%3F%26%3D%C3%A4~-_.9");
}

static void test_the_id_of_a_location(void **state)
{
    static const struct {
        const char *location, *id;
    } cases[] = {{"/v1/tenants/acme/files/01kdv6y6q3p8sxkq2n4ft5w7za", "01kdv6y6q3p8sxkq2n4ft5w7za"},
                 {"https://h/x/uploads/01kdv6y6q3p8sxkq2n4ft5w7zd", "01kdv6y6q3p8sxkq2n4ft5w7zd"},
                 {"01kdv6y6q3p8sxkq2n4ft5w7zd", ""},
                 {"/files/01kdv6y6q3p8sxkq2n4ft5w7za/", ""},
                 {"/files/../../../../../etc/passwdd", ""},
                 {"", ""}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char id[ID_SIZE];
        send_id_of(cases[i].location, id);
        assert_string_equal(id, cases[i].id);
    }
}

static void test_names_of_profiles(void **state)
{
    (void)state;
    assert_true(profile_is_name("acme") && profile_is_name("A-1_b"));
    assert_false(profile_is_name("") || profile_is_name("1a") || profile_is_name("a b") || profile_is_name("a;b") ||
                 profile_is_name("ä"));
}

/* ---- the agreement ---- */

static const char agreement[] = "{\"datasets\":[{\"dataset\":\"data\",\"formats\":[\"csv\"],\"limits\":{\"max_file_bytes\":1000}},"
                                "{\"dataset\":\"free\",\"formats\":[\"csv\",\"json\"],\"limits\":{\"max_file_bytes\":null}}]}";
static const char usage[] =
    "{\"files_today\":{\"used\":1,\"limit\":4,\"left\":3},\"bytes_today\":{\"used\":0,\"limit\":null,\"left\":null},"
    "\"datasets\":[{\"dataset\":\"data\",\"files_today\":{\"used\":0,\"limit\":null,\"left\":null},"
    "\"bytes_today\":{\"used\":0,\"limit\":1500,\"left\":1500}}]}";

/* Marks files of these names and sizes; *ret has the words of what is refused. */
static int mark(const char *dataset, const char *const *names, const int64_t *sizes, size_t n, char (*ret)[256], struct err *e)
{
    AUTO_BSON bson_t *a = json_parse(agreement, sizeof agreement - 1, NULL);
    AUTO_BSON bson_t *u = json_parse(usage, sizeof usage - 1, NULL);
    struct items all = {0};
    for (size_t i = 0; i < n; i++) {
        struct item *one = xcalloc(1, sizeof *one);
        one->path = xstrdup(names[i]);
        one->name = one->path;
        one->size = sizes[i];
        all.v = xgrow(all.v, all.n, sizeof(struct item *));
        all.v[all.n++] = one;
    }
    int r = agreed_mark(a, u, dataset, &all, e);
    for (size_t i = 0; i < n; i++)
        snprintf(ret[i], sizeof ret[i], "%s", all.v[i]->state == ITEM_FAILED ? all.v[i]->err.reason : "");
    items_fini(&all);
    return r;
}

static void test_what_the_agreement_says(void **state)
{
    static const char *const names[] = {"a.csv", "big.csv", "a.json", "a.TSV.gz", "none", "b.csv", "c.csv", "d.csv"};
    static const int64_t sizes[] = {1000, 1001, 1, 400, 1, 101, 100, 0};
    static const char *const says[] = {"", "max_file_bytes", "format", "", "format", "max_bytes_per_day", "", "max_files_per_day"};
    char told[8][256];
    struct err e = {0};
    (void)state;
    assert_int_equal(mark("data", names, sizes, 8, told, &e), 0);
    for (size_t i = 0; i < 8; i++)
        assert_string_equal(told[i], says[i]);
    assert_int_equal(mark("free", names, sizes, 3, told, &e), 0);
    assert_string_equal(told[1], "");
    assert_string_equal(told[2], "");
    assert_int_equal(mark("dato", names, sizes, 0, told, &e), ERR_REFUSED);
    assert_non_null(strstr(e.msg, "did you mean 'data'"));
}

/* ---- cells ---- */

static void test_cells(void **state)
{
    static const char text[] = "{\"at\":\"2026-01-31T12:00:00.123Z\",\"n\":3,\"x\":0.5,\"no\":null,\"yes\":true,\"empty\":\"\","
                               "\"list\":[\"a\",1],\"o\":{\"k\":1}}";
    static const struct {
        struct col col;
        const char *cell;
    } cases[] = {{{"at", COL_TIME, 1}, "2026-01-31T12:00:00"},
                 {{"n", COL_COUNT, 1}, "3"},
                 {{"x", COL_NUMBER, 1}, "0.500"},
                 {{"no", COL_TEXT, 1}, NULL},
                 {{"yes", COL_BOOL, 1}, "yes"},
                 {{"empty", COL_TEXT, 1}, NULL},
                 {{"gone", COL_TEXT, 1}, NULL},
                 {{"o", COL_JSON, 1}, "{ \"k\" : 1 }"}};
    AUTO_BSON bson_t *doc = json_parse(text, sizeof text - 1, NULL);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AUTO_FREE char *cell = listing_cell(doc, &cases[i].col);
        if (cases[i].cell)
            assert_string_equal(cell, cases[i].cell);
        else
            assert_null(cell);
    }
    AUTO_FREE char *list = listing_cell(doc, &(struct col){"list", COL_JSON, 1});
    assert_non_null(strstr(list, "\"a\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pauses_double_up_to_a_bound), cmocka_unit_test(test_names_are_escaped),
        cmocka_unit_test(test_the_id_of_a_location),        cmocka_unit_test(test_names_of_profiles),
        cmocka_unit_test(test_what_the_agreement_says),     cmocka_unit_test(test_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
