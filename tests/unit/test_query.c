/* Questions about one tenant: what is listed, that an index serves each, and that nothing of a tenant's text gets out of its place.
 */
#include "query_home.h"

#include "base/buf.h"
#include "base/mem.h"
#include "query/ledger_view.h"

#include <stdio.h>
#include <string.h>

/* The numbers of the ids in an array, each with a blank behind it. */
static char *numbers(const bson_t *body, const char *array, const char *key)
{
    AUTO_BUF struct buf b = {0};
    bson_iter_t it;
    bson_t one;
    buf_add(&b, "", 0);
    assert_true(json_get_iter(body, array, &it));
    while (json_next_doc(&it, &one))
        buf_addf(&b, "%d ", atoi(json_get_str(&one, key, "") + 10));
    return xstrdup(b.p);
}

static void lists(const char *name, const struct query_scope *scope, const char *params, const char *expected)
{
    const char *code;
    int status;
    AUTO_BSON bson_t *body = ask_in(name, scope, params, &status, &code);
    assert_non_null(body);
    AUTO_FREE char *got = numbers(body, name, *name == 'f' ? "file_id" : "run_id");
    if (strcmp(got, expected) != 0)
        fail_msg("%s %s: %s, not %s", name, params, got, expected);
}

/* All pages of a listing, by its cursors. */
static char *all_pages(const char *name, const char *filters, int limit, int *ret_pages)
{
    AUTO_BUF struct buf all = {0};
    AUTO_FREE char *cursor = xstrdup("null");
    *ret_pages = 0;
    buf_add(&all, "", 0);
    while (cursor) {
        AUTO_FREE char *params = xasprintf("{%s'limit':%d,'cursor':%s}", filters, limit, cursor);
        AUTO_BSON bson_t *body = ask(name, params);
        AUTO_FREE char *got = numbers(body, name, *name == 'f' ? "file_id" : "run_id");
        const char *next = json_get_str(body, "next", NULL);
        buf_adds(&all, got);
        free(cursor);
        cursor = next ? xasprintf("'%s'", next) : NULL;
        ++*ret_pages;
    }
    return xstrdup(all.p);
}

/* ---- tests ---- */

static void a_listing_is_filtered_and_newest_first(void **state)
{
    (void)state;
    put_file(1, "acme", "a", "ingested", "1");
    put_file(2, "acme", "b", "quarantined", "2");
    put_file(3, "other", "a", "quarantined", "3");
    put_file(4, "acme", "a", "queued", "4");
    put_file(5, "acme", "a", "quarantined", "5");
    put_file(6, "acme", "b", "rejected", "6");
    lists("files", &acme, "{}", "6 5 4 2 1 ");
    lists("files", &other, "{}", "3 ");
    lists("files", &acme, "{'dataset':'a'}", "5 4 1 ");
    lists("files", &acme, "{'state':'quarantined'}", "5 2 ");
    lists("files", &acme, "{'state':'quarantined','dataset':'b'}", "2 ");
    lists("files", &acme, "{'state':'queued'}", "4 ");
    lists("files", &acme, "{'state':'ingested'}", "1 ");
    lists("files", &acme, "{'since':'2026-01-01T00:00:04Z'}", "6 5 4 ");
    lists("files", &acme, "{'since':'2026-01-01T00:00:04Z','state':'quarantined'}", "5 ");
    lists("files", &acme, "{'limit':2}", "6 5 ");
    lists("files", &acme_a, "{}", "5 4 1 ");
    lists("files", &acme_a, "{'dataset':'b'}", "");
    lists("files", &acme_a, "{'state':'quarantined'}", "5 ");
    lists("files", &acme_none, "{}", "");
}

static void runs_are_those_of_both_books(void **state)
{
    (void)state;
    put_file(1, "acme", "a", "ingested", "1");
    put_file(2, "acme", "b", "ingested", "2");
    put_file(3, "other", "a", "ingested", "3");
    put_run(11, 1, "acme", "check", "ended");
    put_run(12, 1, "acme", "app", "ended");
    put_instance(13, "acme", "running");
    put_run(14, 2, "acme", "app", "running");
    put_run(15, 3, "other", "app", "running");
    put_instance(16, "other", "running");
    put_instance(17, "acme", "ended");
    lists("runs", &acme, "{}", "17 14 13 12 11 ");
    lists("runs", &other, "{}", "16 15 ");
    lists("runs", &acme, "{'state':'running'}", "14 13 ");
    lists("runs", &acme, "{'state':'ended'}", "17 12 11 ");
    lists("runs", &acme, "{'app':'pipe'}", "17 13 ");
    lists("runs", &acme, "{'file_id':'01kdwgyr000000000000000001'}", "12 11 ");
    lists("runs", &acme, "{'limit':2}", "17 14 ");
    lists("runs", &acme_a, "{}", "12 11 ");
    lists("runs", &acme_a, "{'state':'running'}", "");
    refused("runs", "{'file_id':'01kdwgyr000000000000000003'}", 404, "not_found");
    refused_in(&acme_a, "runs", "{'file_id':'01kdwgyr000000000000000002'}", 404, "not_found");
    AUTO_BSON bson_t *run = ask("run", "{'run_id':'01kdwgyr000000000000000013'}");
    assert_string_equal(json_get_str(run, "kind", ""), "stream");
    refused("run", "{'run_id':'01kdwgyr000000000000000015'}", 404, "not_found");
    refused("run", "{'run_id':'01kdwgyr000000000000000016'}", 404, "not_found");
    refused_in(&acme_a, "run", "{'run_id':'01kdwgyr000000000000000013'}", 404, "not_found");
    refused_in(&acme_a, "log", "{'run_id':'01kdwgyr000000000000000014'}", 404, "not_found");
}

/* Whatever the pages are cut to, each row is on one of them, in order. */
static void pages_have_every_row_once(void **state)
{
    enum { N = 60 };
    static const char *const files[] =
        {"", "'dataset':'a',", "'state':'quarantined',", "'state':'queued',", "'state':'ingested',", "'state':'waiting',"},
                             *const runs[] = {"", "'state':'running',", "'state':'ended',", "'app':'pipe',"};
    static const char *const states[] = {"ingested", "quarantined", "queued"};
    int pages;
    (void)state;
    for (int i = 0; i < N; i++) {
        put_file(i, i % 7 ? "acme" : "other", i % 2 ? "a" : "b", states[i % 3], "x");
        if (i % 2)
            put_run(N + i, i, "acme", "app", i % 3 ? "ended" : "running");
        else
            put_instance(N + i, "acme", i % 3 ? "ended" : "running");
    }
    put(ledger,
        "UPDATE files SET received_at=1767225600000 WHERE file_id<'01kdwgyr000000000000000030'"); /* all in one millisecond */
    for (size_t i = 0; i < sizeof files / sizeof *files + sizeof runs / sizeof *runs; i++) {
        bool is_file = i < sizeof files / sizeof *files;
        const char *name = is_file ? "files" : "runs", *filters = is_file ? files[i] : runs[i - sizeof files / sizeof *files];
        AUTO_FREE char *whole = all_pages(name, filters, 1000, &pages);
        assert_int_equal(pages, 1);
        for (int limit = 1; limit < 8; limit++) {
            AUTO_FREE char *parts = all_pages(name, filters, limit, &pages);
            assert_string_equal(parts, whole);
        }
    }
}

/* Rows that a filter leaves out are looked at, up to a number for each page. */
static void a_page_looks_at_so_many_rows(void **state)
{
    enum { N = 45000 };
    int pages;
    (void)state;
    put(ledger, "BEGIN");
    for (int i = 0; i < N; i++)
        put_file(i, "acme", i == 3 ? "rare" : "a", "ingested", "x");
    put(ledger, "COMMIT");
    AUTO_FREE char *got = all_pages("files", "'dataset':'rare',", 10, &pages);
    assert_string_equal(got, "3 ");
    assert_int_equal(pages, 3);
}

static void a_page_has_so_many_bytes(void **state)
{
    enum { N = 12, EACH = 1 << 20 };
    AUTO_FREE char *name = xcalloc(1, EACH + 1);
    int pages;
    (void)state;
    memset(name, 'n', EACH);
    for (int i = 1; i <= N; i++)
        put_file(i, "acme", "a", "ingested", name);
    AUTO_FREE char *got = all_pages("files", "", 1000, &pages);
    assert_string_equal(got, "12 11 10 9 8 7 6 5 4 3 2 1 ");
    assert_in_range(pages, 3, 4);
}

static void what_is_others_is_not_there(void **state)
{
    static const char *const questions[][2] = {
        {"file", "file_id"}, {"rejects", "file_id"}, {"runs", "file_id"}, {"run", "run_id"}, {"log", "run_id"}};
    static const char *const ids[] = {"01kdwgyr000000000000000002",
                                      "01kdwgyr000000000000000012",
                                      "01kdwgyr000000000000000099",
                                      "01KDWGYR000000000000000001",
                                      "' OR 1=1 --",
                                      "%",
                                      "",
                                      "../../../../etc/passwd00000",
                                      "01kdwgyr000000000000000001\\u0000",
                                      "01kdwgyr0000000000000000010"};
    (void)state;
    put_file(1, "acme", "a", "ingested", "1");
    put_file(2, "other", "a", "ingested", "2");
    put_run(12, 2, "other", "app", "ended");
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++)
        for (size_t k = 0; k < sizeof ids / sizeof *ids; k++) {
            AUTO_FREE char *text = xasprintf("{\"%s\":\"%s\"}", questions[i][1], ids[k]);
            AUTO_BSON bson_t *doc = json_parse(text, strlen(text), NULL);
            struct query_answer a = {0};
            query(queries, questions[i][0], &acme, doc, &a);
            assert_int_equal(a.status, 404);
            assert_string_equal(a.code, "not_found");
            assert_string_equal(a.detail, ""); /* the same of all */
            assert_int_equal(a.head.n + a.body.n, 0);
            query_answer_fini(&a);
        }
    static const char *const cursors[] = {"01kdwgyr000000000000000002", "01kdwgyr000000000000000012", "01kdwgyr000000000000000099",
                                          "'"};
    for (size_t k = 0; k < sizeof cursors / sizeof *cursors; k++) {
        AUTO_FREE char *text = xasprintf("{'cursor':'%s'}", *cursors[k] == '\'' ? "%" : cursors[k]);
        refused("files", text, 400, "parameter");
        refused("runs", text, 400, "parameter");
    }
    refused_in(&(struct query_scope){"nobody", NULL}, "files", "{}", 404, "not_found");
    refused_in(&(struct query_scope){"' OR '1'='1", NULL}, "files", "{}", 404, "not_found");
    refused_in(&(struct query_scope){"%", NULL}, "bill", "{'month':'2026-01'}", 404, "not_found");
}

static void filters_are_values_and_no_sql(void **state)
{
    static const char *const words[] = {"' OR '1'='1", "a' --", "%", "_", "a\\\" OR 1=1", "*", ":tenant", "?1", "a\\u0007"};
    (void)state;
    put_file(1, "acme", "a", "ingested", "1");
    put_file(2, "other", "a", "ingested", "2");
    put_run(11, 1, "acme", "app", "ended");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        static const char *const keys[][2] = {{"files", "dataset"}, {"runs", "app"}};
        for (int k = 0; k < 2; k++) {
            AUTO_FREE char *text = xasprintf("{\"%s\":\"%s\"}", keys[k][1], words[i]);
            AUTO_BSON bson_t *doc = json_parse(text, strlen(text), NULL);
            struct query_answer a = {0};
            query(queries, keys[k][0], &acme, doc, &a);
            assert_int_equal(a.status, 200);
            assert_non_null(strstr(a.body.p, "[]"));
            query_answer_fini(&a);
        }
    }
    refused("files", "{'state':'ingested OR 1'}", 400, "parameter");
    char *const odd[] = {"a') OR 1=1 --", "\"]", "%", NULL};
    lists("files", &(struct query_scope){"acme", odd}, "{}", "");
}

static void parameters_are_checked(void **state)
{
    static const char *const bad[][2] = {
        {"files", "{'limit':0}"},
        {"files", "{'limit':1001}"},
        {"files", "{'limit':-1}"},
        {"files", "{'limit':1.5}"},
        {"files", "{'limit':'5'}"},
        {"files", "{'limit':true}"},
        {"files", "{'limit':99999999999999999999}"},
        {"files", "{'since':'soon'}"},
        {"files", "{'since':5}"},
        {"files", "{'state':'nosuch'}"},
        {"files", "{'dataset':{}}"},
        {"files", "{'dataset':['a']}"},
        {"files", "{'tenant':'other'}"},
        {"files", "{'tenant_id':'other'}"},
        {"files", "{'x y':1}"},
        {"files", "{'':1}"},
        {"files", "{'run_id':'x'}"},
        {"runs", "{'state':'quarantined'}"},
        {"file", "{}"},
        {"file", "{'file_id':null}"},
        {"file", "{'file_id':1}"},
        {"run", "{}"},
        {"rejects", "{'format':'xml'}"},
        {"log", "{'tail':0}"},
        {"log", "{'tail':262145}"},
        {"log", "{'from':'x'}"},
        {"log", "{'from':'1-'}"},
        {"log", "{'from':'1-1-1'}"},
        {"log", "{'from':'../x'}"},
        {"bill", "{}"},
        {"bill", "{'month':'2026'}"},
        {"bill", "{'month':'2026-13'}"},
        {"bill", "{'month':'2026-00'}"},
        {"bill", "{'month':'2026-1'}"},
        {"bill", "{'month':'26-01-1'}"},
        {"bill", "{'month':'-026-01'}"},
        {"bill", "{'month':'9999-12'}"},
        {"usage", "{'a':1}"},
        {"apps", "{'a':1}"},
        {"agreement", "{'a':1}"},
    };
    (void)state;
    put_file(1, "acme", "a", "ingested", "1");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(bad[i][0], bad[i][1], 400, "parameter");
    refused("nosuch", "{}", 400, "query");
    refused("", "{}", 400, "query");
    AUTO_FREE char *longer = xasprintf("{'dataset':'%0300d'}", 1);
    refused("files", longer, 400, "parameter");
    lists("files", &acme, "{'dataset':null,'state':null,'since':null,'limit':null,'cursor':null}", "1 ");
}

static void a_tenants_text_stays_text(void **state)
{
    static const char text[] = "\"},{\"x\":\"\\ \n\r\t\x01\x1b[31m\x7f \xff\xfe \xc2\x85 </script>'\xe2\x80\xae";
    static const char *const broken[] = {"{\"a\":1", "1}{", "[1,2", "{\"a\":NaN}", "\"", "x", "{\"a\":\"\n\"}"};
    (void)state;
    put_file(1, "acme", text, "quarantined", text);
    sqlite3_stmt *s = NULL;
    assert_int_equal(
        sqlite3_prepare_v2(ledger, "UPDATE files SET reason=?1, detail=?1, hash=?1, run_id=?1, quality=?2", -1, &s, NULL),
        SQLITE_OK);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        sqlite3_bind_text(s, 1, text, -1, SQLITE_STATIC);
        sqlite3_bind_text(s, 2, broken[i], -1, SQLITE_STATIC);
        assert_int_equal(sqlite3_step(s), SQLITE_DONE);
        sqlite3_reset(s);
        AUTO_BSON bson_t *page = ask("files", "{}"), *one = ask("file", "{'file_id':'01kdwgyr000000000000000001'}");
        bson_iter_t it;
        bson_t file;
        assert_true(json_get_iter(page, "files", &it) && json_next_doc(&it, &file));
        assert_false(json_next_doc(&it, &(bson_t){0}));
        assert_int_equal(bson_count_keys(&file), 19);
        assert_int_equal(bson_count_keys(one), 21);
        assert_string_equal(json_get_str(&file, "file_name", ""), json_get_str(one, "file_name", "-"));
        assert_memory_equal(json_get_str(&file, "file_name", ""),
                            "\"},{\"x\":\"\\ \n\r\t\x01\x1b[31m\x7f \xef\xbf\xbd\xef\xbf\xbd ", 29);
        assert_true(bson_iter_init_find(&it, one, "quality") && BSON_ITER_HOLDS_NULL(&it));
    }
    sqlite3_finalize(s);
}

/* ---- plans ---- */

static char *statements[200];
static size_t n_statements;

static int on_statement(unsigned what, void *arg, void *s, void *text)
{
    (void)what;
    (void)arg;
    (void)text;
    if (n_statements < sizeof statements / sizeof *statements)
        statements[n_statements++] = xstrdup(sqlite3_sql(s));
    return 0;
}

static int watch(sqlite3 *db, char **why, const void *api)
{
    (void)why;
    (void)api;
    return sqlite3_trace_v2(db, SQLITE_TRACE_STMT, on_statement, NULL);
}

/* A scan of a table, a search for all that a tenant ever had, or sorting: such a question costs what the ledger holds. The live
 * ones of all tenants may be passed over; the runs of one file may be sorted, and what is grouped. */
static void is_served_by_an_index(sqlite3 *db, const char *sql)
{
    static const char *const may_be_scanned[] = {"files_live",   "runs_live", "instances_live", "json_each",
                                                 "CONSTANT ROW", "SCAN w",    "SCAN (subquery"};
    AUTO_FREE char *explain = xasprintf("EXPLAIN QUERY PLAN %s", sql);
    bool few = strstr(sql, "GROUP BY") || strstr(sql, "WITH w");
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(db, explain, -1, &s, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sqlite3_errmsg(db), sql);
    while (sqlite3_step(s) == SQLITE_ROW) {
        const char *step = (const char *)sqlite3_column_text(s, 3);
        bool bad = !strncmp(step, "SCAN", 4);
        for (size_t i = 0; i < sizeof may_be_scanned / sizeof *may_be_scanned; i++)
            bad = bad && !strstr(step, may_be_scanned[i]);
        if (bad || strstr(step, "(tenant=?)") || (!few && strstr(step, "TEMP B-TREE")))
            fail_msg("%s: %s", step, sql);
    }
    sqlite3_finalize(s);
}

static void every_question_is_served_by_an_index(void **state)
{
    static const char *const some[][2] = {
        {"files", "{}"},
        {"files", "{'dataset':'a','since':'1d'}"},
        {"files", "{'state':'ingested','cursor':'01kdwgyr000000000000000001'}"},
        {"files", "{'state':'quarantined','dataset':'a','cursor':'01kdwgyr000000000000000001'}"},
        {"files", "{'state':'queued'}"},
        {"file", "{'file_id':'01kdwgyr000000000000000001'}"},
        {"runs", "{}"},
        {"runs", "{'app':'x','since':'1d','cursor':'01kdwgyr000000000000000011'}"},
        {"runs", "{'state':'running'}"},
        {"runs", "{'state':'ended'}"},
        {"runs", "{'file_id':'01kdwgyr000000000000000001'}"},
        {"run", "{'run_id':'01kdwgyr000000000000000011'}"},
        {"rejects", "{'file_id':'01kdwgyr000000000000000001'}"},
        {"log", "{'run_id':'01kdwgyr000000000000000011'}"},
        {"bill", "{'month':'2026-01'}"},
    };
    sqlite3 *db = NULL;
    (void)state;
    put_file(1, "acme", "a", "ingested", "1");
    put_run(11, 1, "acme", "app", "ended");
    put(ledger, "UPDATE files SET run_id='01kdwgyr000000000000000011'");
    assert_int_equal(sqlite3_auto_extension((void (*)(void))watch), SQLITE_OK);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        const char *code;
        struct query_answer a = {0};
        AUTO_FREE char *text = xstrdup(some[i][1]);
        for (char *p = text; *p; p++)
            *p = *p == '\'' ? '"' : *p;
        AUTO_BSON bson_t *doc = json_parse(text, strlen(text), NULL);
        query(queries, some[i][0], &acme, doc, &a);
        code = a.code;
        if (a.status != 200)
            fail_msg("%s %s: %s", some[i][0], some[i][1], code);
        query_answer_fini(&a);
    }
    sqlite3_cancel_auto_extension((void (*)(void))watch);
    assert_in_range(n_statements, 40, sizeof statements / sizeof *statements - 1);
    assert_int_equal(ledger_view_open(&home, 1000, &db, NULL), 0);
    for (size_t i = 0; i < n_statements; i++) {
        if (!strncmp(statements[i], "SELECT", 6) && !strstr(statements[i], "FROM meta") && !strstr(statements[i], "LIMIT 1"))
            is_served_by_an_index(db, statements[i]);
        free(statements[i]);
    }
    n_statements = 0;
    sqlite3_close(db);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_home, remove_home)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_listing_is_filtered_and_newest_first), TEST(runs_are_those_of_both_books), TEST(pages_have_every_row_once),
        TEST(a_page_looks_at_so_many_rows),           TEST(a_page_has_so_many_bytes),     TEST(what_is_others_is_not_there),
        TEST(filters_are_values_and_no_sql),          TEST(parameters_are_checked),       TEST(a_tenants_text_stays_text),
        TEST(every_question_is_served_by_an_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
