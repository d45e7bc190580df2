/* What is remembered of a tenant's journal: sums have to be those of reading all of it, and who may read a little at a time gets to
 * the end. */
#include "check.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "query/stream_days.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { N_DAYS = 6, LINES_A_DAY = 4000, DAY_MS = 86400000, HOUR_MS = 3600000 };
static const int64_t begin_ms = 1767225600000; /* 2026-01-01 */

static char dir[64];
static struct home home;
static int64_t n_asked, may_ask;

static void add(struct buf *b, int64_t at_ms, const char *app, int64_t line, int64_t messages)
{
    AUTO_FREE char *number = xasprintf("%016llx", (long long)line);
    json_begin(b, NULL, '{');
    json_time(b, "ts", at_ms);
    json_str(b, "event", "interval");
    json_str(b, "stream", "events");
    json_str(b, "app", app);
    json_str(b, "line", number);
    json_i64(b, "messages", messages);
    json_i64(b, "rows", app ? 2 * messages : 0);
    json_i64(b, "refused", app ? 0 : 1);
    json_end(b, '}');
    buf_adds(b, "\n");
}

/* As a purge does. */
static void remove_journal(void)
{
    assert_int_equal(fd_remove_tree(home.dirfd, "logs/tenants/acme"), 0);
}

static void write_journal(const struct buf *b)
{
    remove_journal();
    assert_int_equal(fd_append_file(home.dirfd, "logs/tenants/acme", "stream.jsonl", b->p, b->n, 0600), 0);
}

/* N_DAYS days, an app and a stream; at the end of the second a line comes again that a kill had made uncertain. */
static void fill(int64_t messages)
{
    AUTO_BUF struct buf b = {0};
    for (int64_t i = 0; i < (int64_t)N_DAYS * LINES_A_DAY; i++) {
        const int64_t at_ms = begin_ms + i * (DAY_MS / LINES_A_DAY);
        add(&b, at_ms, i % 2 ? "app" : NULL, i, messages);
        if (i == 2 * LINES_A_DAY - 1)
            add(&b, at_ms + HOUR_MS, "app", i, messages + 5);
    }
    write_journal(&b);
}

static int make_home(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/simbdp-days-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    home = (struct home){.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    fill(10);
    return home.dirfd < 0 ? -1 : 0;
}

static int remove_home(void **state)
{
    (void)state;
    close(home.dirfd);
    return fd_remove_tree(AT_FDCWD, dir);
}

static bool a_little(void *arg)
{
    (void)arg;
    return ++n_asked <= may_ask;
}

/* 0, or what went wrong; the question may ask so often, which it does every 1000 lines. */
static int ask(struct stream_days *d, int64_t since_ms, int64_t until_ms, int64_t asks, struct tenant_stats *ret)
{
    struct err e = {0};
    n_asked = 0;
    may_ask = asks;
    *ret = (struct tenant_stats){0};
    return stream_days_add(d, &home, "acme", &(struct stretch){since_ms, until_ms}, a_little, NULL, ret, &e);
}

static void same(const struct tenant_stats *a, const struct tenant_stats *b)
{
    assert_int_equal(a->messages, b->messages);
    assert_int_equal(a->messages_done, b->messages_done);
    assert_int_equal(a->messages_refused, b->messages_refused);
    assert_int_equal(a->rows, b->rows);
}

static void who_asks_again_gets_to_the_end(void **state)
{
    struct stream_days *d = stream_days_new();
    struct tenant_stats all, s;
    int n = 1;
    (void)state;
    const int64_t until_ms = begin_ms + 31 * (int64_t)DAY_MS;
    assert_int_equal(ask(NULL, begin_ms, until_ms, INT64_MAX, &all), 0);
    assert_int_equal(all.messages, N_DAYS * LINES_A_DAY / 2 * 10);
    assert_int_equal(all.messages_done, N_DAYS * LINES_A_DAY / 2 * 10 + 5);
    assert_int_equal(ask(NULL, begin_ms, until_ms, 10, &s), -ETIMEDOUT);
    assert_int_equal(ask(NULL, begin_ms, until_ms, 10, &s), -ETIMEDOUT); /* nor then, where nothing is remembered */
    while (ask(d, begin_ms, until_ms, 10, &s) == -ETIMEDOUT)
        assert_true(++n < N_DAYS);
    assert_true(n > 1);
    same(&s, &all);
    assert_int_equal(ask(d, begin_ms, begin_ms + 2 * (int64_t)DAY_MS, 0, &s), 0); /* without a look at the file */
    assert_int_equal(s.messages_done, LINES_A_DAY * 10 - 10);                     /* the last line is of the third day now */
    stream_days_free(d);
}

static void parts_of_days_and_days_that_are_not_over_are_read(void **state)
{
    struct stream_days *d = stream_days_new();
    struct tenant_stats all, s;
    (void)state;
    for (int round = 0; round < 2; round++)
        for (int64_t off = 0; off < 3; off++) {
            const int64_t since_ms = begin_ms + off * HOUR_MS, until_ms = begin_ms + 3 * (int64_t)DAY_MS + off;
            assert_int_equal(ask(d, since_ms, until_ms, INT64_MAX, &s), 0);
            assert_int_equal(ask(NULL, since_ms, until_ms, INT64_MAX, &all), 0);
            same(&s, &all);
        }
    /* The last day's lines end with it: what is missing may come. */
    const int64_t last_ms = begin_ms + (N_DAYS - 1) * (int64_t)DAY_MS;
    assert_int_equal(ask(d, last_ms, last_ms + DAY_MS, INT64_MAX, &s), 0);
    AUTO_BUF struct buf b = {0};
    add(&b, last_ms + DAY_MS - 1, NULL, 1 << 20, 7);
    assert_int_equal(fd_append_file(home.dirfd, "logs/tenants/acme", "stream.jsonl", b.p, b.n, 0600), 0);
    assert_int_equal(ask(d, last_ms, last_ms + DAY_MS, INT64_MAX, &all), 0);
    assert_int_equal(all.messages, s.messages + 7);
    stream_days_free(d);
}

static void a_tenant_of_the_same_name_has_other_days(void **state)
{
    struct stream_days *d = stream_days_new();
    struct tenant_stats s;
    (void)state;
    assert_int_equal(ask(d, begin_ms, begin_ms + DAY_MS, INT64_MAX, &s), 0);
    assert_int_equal(s.messages, LINES_A_DAY / 2 * 10);
    fill(20);
    assert_int_equal(ask(d, begin_ms, begin_ms + DAY_MS, INT64_MAX, &s), 0);
    assert_int_equal(s.messages, LINES_A_DAY / 2 * 20);
    remove_journal();
    assert_int_equal(ask(d, begin_ms, begin_ms + DAY_MS, INT64_MAX, &s), 0);
    assert_int_equal(s.messages, 0);
    stream_days_free(d);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_home, remove_home)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_asks_again_gets_to_the_end),
        TEST(parts_of_days_and_days_that_are_not_over_are_read),
        TEST(a_tenant_of_the_same_name_has_other_days),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
