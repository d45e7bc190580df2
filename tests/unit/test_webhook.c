/* What a webhook is told and when, and how it is signed, without network and clock. */
#include "check.h"

#include "base/json.h"
#include "base/mem.h"
#include "programs/webhook/calls.h"
#include "programs/webhook/post.h"

#include <sodium.h>
#include <string.h>

static struct calls *calls(int64_t group_ms, int64_t alive_ms, int64_t retry_ms)
{
    struct calls *c = calls_new("ops");
    calls_set(c, &(struct calls_settings){group_ms, alive_ms, retry_ms, CALLS_OF_alerts, NULL});
    return c;
}

static int64_t count(const bson_t *doc)
{
    bson_iter_t it;
    bson_t one;
    int64_t n = 0;
    if (json_get_iter(doc, "alerts", &it))
        while (json_next_doc(&it, &one))
            n++;
    return n;
}

/* The call that is to be made now; NULL: none. */
static bson_t *next(struct calls *c, int64_t now_ms, char id[33])
{
    AUTO_BUF struct buf body = {0};
    struct err e = {0};
    if (!calls_next(c, now_ms, 1700000000000, &body, id))
        return NULL;
    bson_t *doc = json_parse(body.p, body.n, &e);
    assert_non_null(doc);
    return doc;
}

static int64_t next_count(struct calls *c, int64_t now_ms)
{
    char id[33];
    AUTO_BSON bson_t *doc = next(c, now_ms, id);
    return doc ? count(doc) : -1;
}

static void a_group_is_one_call(void **state)
{
    (void)state;
    struct calls *c = calls(2000, 0, 60000);
    assert_true(calls_due_ms(c, 0) == INT64_MAX);
    calls_add(c, 1000, "lag", "{\"n\":1}", 1);
    calls_add(c, 1500, "dead", "{\"n\":2}", 1);
    calls_add(c, 2999, "lag", "{\"n\":3}", 1);
    assert_int_equal(calls_due_ms(c, 1500), 3000);
    assert_int_equal(next_count(c, 2999), -1);
    assert_int_equal(next_count(c, 3000), 2);
    calls_add(c, 3000, "lag", "{\"n\":4}", 1); /* not into one that is under way */
    assert_true(calls_due_ms(c, 9000) == INT64_MAX);
    calls_done(c, 3001, CALLS_TOLD, 0, 0);
    assert_int_equal(next_count(c, 3500), 1);
    calls_done(c, 3501, CALLS_TOLD, 0, 0);
    for (int i = 0; i < 2 * CALLS_ALERTS; i++)
        calls_add(c, 4000, "lag", "{}", 1);
    assert_int_equal(next_count(c, 9000), CALLS_ALERTS);
    calls_done(c, 9001, CALLS_TOLD, 0, 0);
    assert_int_equal(next_count(c, 9001), CALLS_ALERTS);
    calls_done(c, 9002, CALLS_TOLD, 0, 0);
    assert_int_equal(next_count(c, 9002), 1);
    calls_free(c);
}

/* Half a second, doubled until a minute, less up to a quarter; the id stays. */
static void what_fails_is_tried_later_each_time(void **state)
{
    (void)state;
    struct calls *c = calls(0, 0, 1000000);
    char first[33], id[33];
    int64_t now = 100;
    calls_add(c, now, "a", "{}", 1);
    for (int i = 0, most = 500; i < 12; i++, most = 2 * most < CALLS_MOST_MS ? 2 * most : CALLS_MOST_MS) {
        AUTO_BSON bson_t *doc = next(c, now, i ? id : first);
        assert_non_null(doc);
        assert_true(!i || !strcmp(first, id));
        calls_done(c, now, CALLS_AGAIN, 0, (uint32_t)i * 999);
        int64_t due = calls_due_ms(c, now);
        assert_in_range(due - now, most * 3 / 4, most);
        now = due;
    }
    assert_int_equal(next_count(c, now), 1);
    calls_done(c, now, CALLS_AGAIN, 200000, 0);
    assert_int_equal(calls_due_ms(c, now), now + 200000);
    assert_int_equal(next_count(c, now + 200000), 1);
    calls_done(c, now + 200000, CALLS_AGAIN, INT64_MAX, 0);
    assert_int_equal(calls_due_ms(c, now), now + 200000 + CALLS_ASKED_MS);
    calls_free(c);
}

static int64_t said(struct calls *c, int64_t now_ms)
{
    char id[33];
    AUTO_BSON bson_t *doc = next(c, now_ms, id);
    assert_non_null(doc);
    return json_get_i64(doc, "dropped", -1);
}

static void what_is_dropped_is_counted_and_said(void **state)
{
    (void)state;
    struct calls *c = calls(0, 0, 1000);
    calls_add(c, 0, "a", "{}", 1);
    assert_int_equal(said(c, 0), 0);
    for (int i = 0; i < CALLS_WAITING + 9; i++) { /* the one under way stays */
        AUTO_FREE char *group = xasprintf("g%d", i);
        calls_add(c, 0, group, "{}", 1);
    }
    assert_int_equal(calls_n_dropped(c), 10);
    assert_int_equal(calls_n_waiting(c), CALLS_WAITING);
    calls_done(c, 0, CALLS_AGAIN, 0, 0);
    assert_int_equal(said(c, 500), 10);
    calls_done(c, 500, CALLS_AGAIN, 0, 0); /* the next would be after 1500, later than retry_ms */
    assert_int_equal(calls_n_dropped(c), 11);
    assert_int_equal(said(c, 500), 11);
    calls_done(c, 500, CALLS_REFUSED, 0, 0);
    assert_int_equal(said(c, 500), 12);
    calls_done(c, 500, CALLS_TOLD, 0, 0);
    assert_int_equal(said(c, 500), 0); /* it was said, and is not again */
    assert_int_equal(calls_n_dropped(c), 12);
    calls_free(c);
}

static void the_switch_is_pressed_while_all_is_well(void **state)
{
    (void)state;
    struct calls *c = calls(0, 10000, 1000);
    char id[33];
    assert_int_equal(next_count(c, 1000), -1);
    calls_alive(c, 1000);
    calls_add(c, 1000, "a", "{}", 1);
    AUTO_BSON bson_t *doc = next(c, 1000, id); /* before what waits */
    assert_string_equal(json_get_str(doc, "state", ""), "alive");
    assert_int_equal(json_get_i64(doc, "every_s", 0), 10);
    calls_done(c, 1000, CALLS_AGAIN, 0, 0); /* not repeated */
    assert_int_equal(next_count(c, 1000), 1);
    calls_done(c, 1000, CALLS_TOLD, 0, 0);
    calls_alive(c, 10999);
    assert_int_equal(calls_due_ms(c, 10999), 11000);
    assert_int_equal(next_count(c, 10999), -1);
    assert_int_equal(next_count(c, 11000), 0);
    calls_done(c, 11000, CALLS_TOLD, 0, 0);
    assert_int_equal(next_count(c, 30000), -1); /* nobody said that all is well */
    calls_alive(c, 30001);
    assert_int_equal(next_count(c, 30001), 0);
    calls_free(c);
}

static void spans_are_what_a_collector_takes(void **state)
{
    (void)state;
    struct calls *c = calls_new("collector");
    AUTO_BUF struct buf body = {0};
    char id[33];
    calls_set(c, &(struct calls_settings){1000, 0, 1000, CALLS_OF_traces, "{\"attributes\":[]}"});
    calls_add(c, 0, "spans", "{\"name\":\"a\"},{\"name\":\"b\"}", 2);
    assert_int_equal(calls_n_waiting(c), 2);
    assert_true(calls_next(c, 1000, 1, &body, id));
    assert_non_null(strstr(body.p, "\"scopeSpans\":[{\"scope\":{\"name\":\"mysimbdp\",\"version\":\"" SIMBDP_VERSION
                                   "\"},\"spans\":[{\"name\":\"a\"},{\"name\":\"b\"}]}]}]}"));
    assert_int_equal(strncmp(body.p, "{\"resourceSpans\":[{\"resource\":{", 31), 0);
    calls_done(c, 1000, CALLS_REFUSED, 0, 0);
    assert_int_equal(calls_n_dropped(c), 2);
    calls_add(c, 1000, "spans", "{\"name\":\"c\"},{\"name\":\"d\"},{\"name\":\"e\"}", 3);
    assert_true(calls_next(c, 2000, 1, &body, id));
    assert_true(calls_is_under_way(c));
    calls_rejected(c, 1);
    calls_done(c, 2000, CALLS_TOLD, 0, 0);
    calls_add(c, 2000, "spans", "{\"name\":\"f\"}", 1);
    assert_true(calls_next(c, 3000, 1, &body, id));
    calls_rejected(c, 7); /* more than it had */
    calls_done(c, 3000, CALLS_TOLD, 0, 0);
    struct calls_counts n = calls_counts(c);
    assert_true(n.told == 2 && n.rejected == 2 && n.dropped == 2);
    enum calls_kind kind;
    assert_true(calls_kind_of("metrics", &kind) == 0 && kind == CALLS_OF_metrics && calls_kind_of("x", &kind) < 0);
    calls_free(c);
}

/* By libsodium's own means; the system test does it by those of Python. */
static void a_signature_is_of_time_and_body(void **state)
{
    (void)state;
    AUTO_BUF struct buf body = {0};
    char hex[65], wanted[65];
    unsigned char mac[32], key[32] = "0123456789abcdef0123456789abcdef";
    buf_adds(&body, "{\"a\":1}");
    crypto_auth_hmacsha256(mac, (const unsigned char *)"1700000000.{\"a\":1}", 18, key);
    sodium_bin2hex(wanted, sizeof wanted, mac, sizeof mac);
    post_sign(key, sizeof key, 1700000000, &body, hex);
    assert_string_equal(hex, wanted);
    post_sign(key, sizeof key, 1700000001, &body, hex);
    assert_string_not_equal(hex, wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_is_one_call),
        cmocka_unit_test(what_fails_is_tried_later_each_time),
        cmocka_unit_test(what_is_dropped_is_counted_and_said),
        cmocka_unit_test(the_switch_is_pressed_while_all_is_well),
        cmocka_unit_test(spans_are_what_a_collector_takes),
        cmocka_unit_test(a_signature_is_of_time_and_body),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
