/* What the gateway parses by hand: targets and digests; and the rate of an account. */
#include "base/json.h"
#include "base/mem.h"
#include "check.h"
#include "programs/gateway/digest.h"
#include "programs/gateway/json_array.h"
#include "programs/gateway/platform_diff.h"
#include "programs/gateway/problem.h"
#include "programs/gateway/rates.h"
#include "programs/gateway/uri.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

static void a_target_is_taken_apart(void **state)
{
    struct uri u;
    int64_t n;
    const char *other;
    (void)state;
    assert_true(uri_parse("/v1/tenants/acme/files/a%3Ab%20%C3%A9.csv?limit=7&since=2026-01-01T00%3A00&x=a+b", &u));
    assert_int_equal(u.n_segments, 5);
    assert_string_equal(u.segments[4], "a:b \xc3\xa9.csv");
    assert_string_equal(uri_field(&u, "since"), "2026-01-01T00:00");
    assert_string_equal(uri_field(&u, "x"), "a b");
    assert_null(uri_field(&u, "y"));
    assert_true(uri_number(&u, "limit", 1, 1, 10, &n) && n == 7);
    assert_true(uri_number(&u, "none", 3, 1, 10, &n) && n == 3);
    assert_false(uri_number(&u, "limit", 1, 1, 6, &n));
    assert_false(uri_number(&u, "x", 1, 1, 6, &n));
    assert_false(uri_knows(&u, (const char *const[]){"limit", "since", NULL}, &other));
    assert_string_equal(other, "x");
    uri_fini(&u);
    assert_true(uri_parse("/", &u) && u.n_segments == 0);
    uri_fini(&u);
    assert_true(uri_parse("/a?b=1&b=2", &u));
    assert_null(uri_field(&u, "b"));
    assert_false(uri_knows(&u, (const char *const[]){"b", NULL}, NULL)); /* twice */
    uri_fini(&u);
}

static void what_is_no_target_is_refused(void **state)
{
    static const char *const bad[] = {"",         "a",      "*",        "http://h/a", "//",
                                      "/a//b",    "/a/",    "/a/../b",  "/.",         "/%2e%2e/b",
                                      "/a%2Fb",   "/a%00b", "/a%",      "/a%4",       "/a%zz",
                                      "/a%0Ab",   "/a%7F",  "/a%C2%85", "/a%FF",      "/a%C0%AF",
                                      "/a?b=%00", "/a?b%",  "/a?b=%1b", "/a#b",       "/1/2/3/4/5/6/7/8/9/10/11/12/13"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct uri u;
        if (uri_parse(bad[i], &u))
            fail_msg("%s was taken", bad[i]);
        uri_fini(&u);
    }
    char text[URI_MAX + 8];
    struct uri u;
    memset(text, 'a', sizeof text);
    text[0] = '/';
    text[URI_MAX + 1] = 0;
    assert_false(uri_parse(text, &u));
    uri_fini(&u);
    text[URI_MAX] = 0;
    assert_true(uri_parse(text, &u));
    uri_fini(&u);
    char many[200] = "/a?";
    for (int i = 0; i <= URI_FIELDS; i++)
        snprintf(many + strlen(many), 10, "f%d=1&", i);
    assert_false(uri_parse(many, &u));
    uri_fini(&u);
}

static bool fits(const char *field, const char *text)
{
    struct digest *d;
    assert_true(digest_parse(field, &d));
    digest_add(d, text, strlen(text) / 2);
    digest_add(d, text + strlen(text) / 2, strlen(text) - strlen(text) / 2);
    bool r = digest_fits(d);
    digest_free(d);
    return r;
}

/* The values of RFC 9530, appendix D: {"hello": "world"} and a line feed. */
static void a_digest_fits_its_content(void **state)
{
    static const char content[] = "{\"hello\": \"world\"}\n";
    static const char sha_256[] = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    static const char sha_512[] =
        "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";
    char both[300];
    (void)state;
    assert_true(fits(NULL, content));
    assert_true(fits(sha_256, content));
    assert_true(fits(sha_512, content));
    snprintf(both, sizeof both, "md5=:AAAA:, %s ,%s", sha_512, sha_256);
    assert_true(fits(both, content));
    assert_false(fits(sha_256, "{\"hello\": \"World\"}\n"));
    assert_false(fits(sha_256, ""));
    both[strlen(both) - 4] ^= 1; /* one of two is wrong */
    assert_false(fits(both, content));
}

static void what_is_no_digest_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "sha-256",
                                      "sha-256=",
                                      "sha-256=abc",
                                      "sha-256=:abc:",
                                      "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=",
                                      "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:,",
                                      "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=: x",
                                      "md5=:AAAA:",
                                      ",",
                                      "=:AAAA:"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct digest *d;
        if (digest_parse(bad[i], &d))
            fail_msg("%s was taken", bad[i]);
        assert_null(d);
    }
}

static void add_element(void *arg, const char *p, size_t n)
{
    struct buf *b = arg;
    buf_add(b, p, n);
    buf_adds(b, "|");
}

static void an_array_is_taken_apart(void **state)
{
    static const char *const bad[] = {"",      " ",        "{}",     "[",      "[1",    "[1,",  "[1,]",
                                      "[,]",   "[,1]",     "[1,,2]", "[1]]",   "[1] x", "[{]",  "[{]}]",
                                      "[\"a]", "[\"\\\"]", "1",      "[[[1]]", "[1}",   "x[1]", "[1][2]"};
    AUTO_BUF struct buf b = {0};
    static const char text[] = " [ 1.10 ,{\"a\":[1,2,\"],\\\"\"]} , \"x, y\"\n,[[],{}],null ]\r\n";
    (void)state;
    assert_true(json_array_split(text, strlen(text), add_element, &b));
    assert_string_equal(b.p, "1.10|{\"a\":[1,2,\"],\\\"\"]}|\"x, y\"|[[],{}]|null|");
    assert_true(json_array_split("[ ]", 3, NULL, NULL));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (json_array_split(bad[i], strlen(bad[i]), NULL, NULL))
            fail_msg("%s was taken", bad[i]);
    char deep[2 * JSON_ARRAY_DEPTH + 8];
    memset(deep, '[', JSON_ARRAY_DEPTH + 1);
    memset(deep + JSON_ARRAY_DEPTH + 1, ']', JSON_ARRAY_DEPTH + 1);
    assert_true(json_array_split(deep, 2 * JSON_ARRAY_DEPTH + 2, NULL, NULL));
    memset(deep, '[', JSON_ARRAY_DEPTH + 2);
    memset(deep + JSON_ARRAY_DEPTH + 2, ']', JSON_ARRAY_DEPTH + 2);
    assert_false(json_array_split(deep, 2 * JSON_ARRAY_DEPTH + 4, NULL, NULL));
}

static void an_account_has_its_rate(void **state)
{
    struct rates *r = rates_new(10);
    int64_t wait_s;
    (void)state;
    for (int i = 0; i < 10; i++)
        assert_true(rates_take(r, "ann", 1000, &wait_s));
    assert_false(rates_take(r, "ann", 1000, &wait_s));
    assert_int_equal(wait_s, 1);
    assert_true(rates_take(r, "bob", 1000, &wait_s)); /* another's is another's */
    assert_false(rates_take(r, "ann", 1099, &wait_s));
    assert_true(rates_take(r, "ann", 1100, &wait_s));
    assert_false(rates_take(r, "ann", 1100, &wait_s));
    for (int i = 0; i < 10; i++) /* no more than a second's worth is saved */
        assert_true(rates_take(r, "ann", 100000, &wait_s));
    assert_false(rates_take(r, "ann", 100000, &wait_s));
    rates_sweep(r, 200000);
    assert_true(rates_take(r, "ann", 200000, &wait_s));
    rates_set(r, -1);
    for (int i = 0; i < 100; i++)
        assert_true(rates_take(r, "ann", 200000, &wait_s));
    rates_set(r, 0);
    assert_false(rates_take(r, "ann", 300000, &wait_s));
    rates_free(r);
}

static void a_problem_is_a_document(void **state)
{
    AUTO_BUF struct buf b = {0};
    (void)state;
    problem_write(&b, "digest", "a \"quote\"", "id");
    assert_string_equal(b.p,
                        "{\"type\":\"about:blank\",\"title\":\"The content does not have the digest that was said\",\"status\":422,"
                        "\"detail\":\"a \\\"quote\\\"\",\"code\":\"digest\",\"request_id\":\"id\"}");
    assert_int_equal(problem_status("not_found"), 404);
    assert_int_equal(problem_status("no such code"), 500);
}

/* What is told of a document after the ones before; it is written as it was. */
static char *told(struct platform_diff *d, const char *text)
{
    AUTO_BUF struct buf whole = {0};
    struct buf out = {0};
    struct platform_part parts[4];
    bson_t docs[4];
    size_t n = 0;
    bson_iter_t it;
    AUTO_BSON bson_t *doc = json_parse(text, strlen(text), NULL);
    for (bson_iter_init(&it, doc); bson_iter_next(&it); n++)
        parts[n] = (struct platform_part){bson_iter_key(&it), json_iter_doc(&it, &docs[n]) ? &docs[n] : NULL};
    platform_write(parts, n, &whole);
    assert_string_equal(whole.p, text);
    platform_diff(d, parts, n, &out);
    return out.p ? out.p : xstrdup("");
}

static void of_the_platform_what_changed_is_told(void **state)
{
    static const struct {
        const char *now, *told;
    } steps[] = {
        {"{\"b\":{\"up\":true,\"n\":1,\"tenants\":[{\"tenant_id\":\"a\",\"q\":0},{\"tenant_id\":\"z\",\"q\":5}],\"none\":[]},\"m\":"
         "null}",
         "{\"b\":{\"up\":true,\"n\":1,\"tenants\":[{\"tenant_id\":\"a\",\"q\":0},{\"tenant_id\":\"z\",\"q\":5}],\"none\":[]},\"m\":"
         "null}"},
        {"{\"b\":{\"up\":true,\"n\":1,\"tenants\":[{\"tenant_id\":\"z\",\"q\":5},{\"tenant_id\":\"a\",\"q\":0}],\"none\":[]},\"m\":"
         "null}",
         ""},
        {"{\"b\":{\"up\":true,\"n\":2.5,\"tenants\":[{\"tenant_id\":\"a\",\"q\":1},{\"tenant_id\":\"z\",\"q\":5}],\"none\":[]},"
         "\"m\":null}",
         "{\"b\":{\"n\":2.5,\"tenants\":[{\"tenant_id\":\"a\",\"q\":1}]}}"},
        {"{\"b\":{\"up\":true,\"n\":2.5,\"tenants\":[{\"tenant_id\":\"z\",\"q\":5}],\"none\":[]},\"m\":{\"rows\":[]}}",
         "{\"m\":{\"rows\":[]},\"gone\":[[\"b\",\"tenants\",\"a\"]]}"},
        {"{\"b\":null,\"m\":{\"rows\":[{\"tenant_id\":\"a\",\"app\":\"x\",\"s\":\"}:\"},{\"tenant_id\":\"a\",\"app\":\"y\",\"run_"
         "id\":\"1\",\"s\":"
         "null}]}}",
         "{\"b\":null,\"m\":{\"rows\":[{\"tenant_id\":\"a\",\"app\":\"x\",\"s\":\"}:\"},{\"tenant_id\":\"a\",\"app\":\"y\",\"run_"
         "id\":\"1\",\"s\":"
         "null}]}}"},
        {"{\"b\":null,\"m\":{\"rows\":[{\"tenant_id\":\"a\",\"app\":\"x\",\"s\":\"}:\"}]}}",
         "{\"gone\":[[\"m\",\"rows\",\"a/y/1\"]]}"},
        /* what comes back is told whole; a value of another type, and a list that is none any more */
        {"{\"b\":{\"up\":\"true\",\"tenants\":[{\"tenant_id\":\"z\",\"q\":5}]},\"m\":{\"rows\":[1,{\"tenant_id\":\"a\"}]}}",
         "{\"b\":{\"up\":\"true\",\"tenants\":[{\"tenant_id\":\"z\",\"q\":5}]},\"m\":{\"rows\":[1,{\"tenant_id\":\"a\"}]},"
         "\"gone\":[[\"m\",\"rows\",\"a/x\"]]}"},
        {"{\"b\":{\"up\":true},\"m\":{}}", "{\"b\":{\"up\":true},\"gone\":[G]}"},
        {"{\"b\":{\"up\":true},\"m\":{}}", ""},
        {"{\"b\":null,\"m\":null}", "{\"b\":null,\"m\":null}"},
        /* of the machine: disks by place, programs by name */
        {"{\"b\":null,\"m\":{\"d\":[{\"place\":\"home\",\"f\":1},{\"place\":\"logs\",\"f\":1}],\"p\":[{\"program\":\"x\",\"r\":0}]}"
         "}",
         "{\"m\":{\"d\":[{\"place\":\"home\",\"f\":1},{\"place\":\"logs\",\"f\":1}],\"p\":[{\"program\":\"x\",\"r\":0}]}}"},
        {"{\"b\":null,\"m\":{\"d\":[{\"place\":\"home\",\"f\":2}],\"p\":[{\"program\":\"y\",\"r\":0},{\"program\":\"x\",\"r\":0}]}"
         "}",
         "{\"m\":{\"d\":[{\"place\":\"home\",\"f\":2}],\"p\":[{\"program\":\"y\",\"r\":0}]},\"gone\":[[\"m\",\"d\",\"logs\"]]}"},
        {"{\"b\":null,\"m\":null}", "{\"m\":null}"},
    };
    struct platform_diff *d = platform_diff_new();
    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        AUTO_FREE char *is = told(d, steps[i].now);
        assert_non_null(is);
        char *gone = strstr(steps[i].told, "[G]") ? strstr(is, "[[") : NULL; /* in no order */
        if (gone) {
            assert_non_null(strstr(gone, "[\"b\",\"tenants\",\"z\"]"));
            assert_non_null(strstr(gone, "[\"b\",\"tenants\"]"));
            assert_non_null(strstr(gone, "[\"m\",\"rows\"]"));
            strcpy(gone, "[G]}");
        }
        assert_string_equal(is, steps[i].told);
    }
    platform_diff_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_is_taken_apart),   cmocka_unit_test(what_is_no_target_is_refused),
        cmocka_unit_test(a_digest_fits_its_content), cmocka_unit_test(what_is_no_digest_is_refused),
        cmocka_unit_test(an_array_is_taken_apart),   cmocka_unit_test(an_account_has_its_rate),
        cmocka_unit_test(a_problem_is_a_document),   cmocka_unit_test(of_the_platform_what_changed_is_told),
    };
    return sodium_init() < 0 || cmocka_run_group_tests(tests, NULL, NULL);
}
