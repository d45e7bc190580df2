/* What the front reads of a request and of an answer, however it comes in pieces. What it refuses, tests/attack/test_cells_front.py
 * has. */
#include "check.h"
#include "programs/cells/route.h"

#include <string.h>

static struct head parsed(const char *text)
{
    struct head h;
    struct head_problem why;
    assert_int_equal(head_end(text, strlen(text)), strlen(text));
    assert_true(head_parse_request(text, strlen(text), &h, &why));
    return h;
}

static void a_head_ends_where_it_ends(void **state)
{
    const char *text = "GET / HTTP/1.1\r\nHost: h\r\n\r\nmore\r\n\r\n";
    (void)state;
    for (size_t n = 0; n < 27; n++)
        assert_int_equal(head_end(text, n), 0);
    for (size_t n = 27; n <= strlen(text); n++)
        assert_int_equal(head_end(text, n), 27);
}

static void fields_are_found_and_passed_on(void **state)
{
    struct head h = parsed("PUT /a?b HTTP/1.1\r\nhost:h\r\nX-Own: \t a b \t\r\nContent-Length: 12\r\nConnection: close\r\nExpect: "
                           "100-continue\r\n\r\n");
    AUTO_BUF struct buf b = {0};
    (void)state;
    assert_true(h.closes && h.expects && h.body.kind == BODY_LENGTH && h.body.left == 12 && !h.body.done);
    assert_true(span_is(head_field(&h, "x-own"), "a b"));
    head_write_request(&h, "10.0.0.1", &b);
    assert_string_equal(b.p, "PUT /a?b HTTP/1.1\r\nhost: h\r\nX-Own: a b\r\nContent-Length: 12\r\nExpect: "
                             "100-continue\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n");
}

static void answers_have_bodies_as_rfc_9112_says(void **state)
{
    static const struct {
        const char *text;
        bool is_head, done;
        int kind;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\n\r\n", false, false, BODY_UNTIL_CLOSE},
        {"HTTP/1.1 200 OK\r\n\r\n", true, true, BODY_LENGTH},
        {"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", false, true, BODY_LENGTH},
        {"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", false, true, BODY_LENGTH},
        {"HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", false, true, BODY_LENGTH},
        {"HTTP/1.1 100 Continue\r\n\r\n", false, true, BODY_LENGTH},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", false, false, BODY_CHUNKED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct head h;
        assert_true(head_parse_answer(cases[i].text, strlen(cases[i].text), cases[i].is_head, &h));
        assert_true((int)h.body.kind == cases[i].kind && h.body.done == cases[i].done);
    }
}

/* However the bytes are cut, what belongs to the body is the same. */
static void chunks_end_where_they_end(void **state)
{
    const char *text = "3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\nGET /";
    size_t whole = strlen(text) - 5;
    (void)state;
    for (size_t cut = 0; cut <= strlen(text); cut++) {
        struct body b = body_chunked();
        size_t n = body_take(&b, text, cut);
        assert_int_equal(n, cut < whole ? cut : whole);
        assert_int_equal(b.done, cut >= whole);
        n += body_take(&b, text + n, strlen(text) - n);
        assert_true(b.done && !b.bad && n == whole);
    }
}

static void a_tenant_is_named_in_three_ways(void **state)
{
    static const struct {
        const char *target, *host, *field, *tenant;
        int status;
    } cases[] = {
        {"/v1/tenants/acme/files", "d.example", NULL, "acme", 0},
        {"/v1/tenants/acme/files?x=/../", "d.example:8443", NULL, "acme", 0},
        {"/v1/tenants/acme/datasets/d/files/%41.csv", "acme.d.example", "acme", "acme", 0},
        {"/", "acme.d.example", NULL, "acme", 0},
        {"/page/app.js", "acme.d.example", NULL, "acme", 0},
        {"/v1/whoami", "d.example", "acme", "acme", 0},
        {"/v1/whoami", "d.example", NULL, NULL, 404},
        {"/v1/session", "beta.d.example", "acme", NULL, 421},
        {"/v1/tenants/acme", "acme.d.example", NULL, NULL, 404},
        {"/v1/tenants/acme:suspend", "acme.d.example", NULL, NULL, 404},
        {"/v1/platform", "acme.d.example", NULL, NULL, 404},
        {"/v1/tenants/acme/files", "other.example", NULL, NULL, 421},
        {"/v1/tenants/acme/files", "[::1]:80", NULL, NULL, 421},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AUTO_BUF struct buf b = {0};
        buf_addf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", cases[i].target, cases[i].host);
        if (cases[i].field)
            buf_addf(&b, "Simbdp-Tenant: %s\r\n", cases[i].field);
        buf_adds(&b, "\r\n");
        struct head h = parsed(b.p);
        struct route r = route_of(&h, "d.example");
        if (cases[i].tenant)
            assert_true(r.kind == ROUTE_TENANT && span_is(r.tenant, cases[i].tenant));
        else
            assert_true(r.kind == ROUTE_REFUSED && r.why.status == cases[i].status);
    }
    struct head h = parsed("GET /v1/tenants/acme/files HTTP/1.1\r\nHost: [::1]:80\r\n\r\n");
    assert_int_equal(route_of(&h, "").kind, ROUTE_TENANT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_ends_where_it_ends),
        cmocka_unit_test(fields_are_found_and_passed_on),
        cmocka_unit_test(answers_have_bodies_as_rfc_9112_says),
        cmocka_unit_test(chunks_end_where_they_end),
        cmocka_unit_test(a_tenant_is_named_in_three_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
