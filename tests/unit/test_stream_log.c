/* Stretches of a tenant's journal: what is read of it by looking for the place has to be what reading all of it gives. */
#include "check.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/stream_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { STEP_MS = 5000, N_LINES = 20000, LONGEST = 1000, HOUR_MS = 3600000 };
static const int64_t begin_ms = 1767225600000; /* 2026-01-01 */

static int home_with(char dir[64], const struct buf *journal)
{
    strcpy(dir, "/tmp/simbdp-log-XXXXXX");
    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(fd_append_file(fd, "logs/tenants/acme", "stream.jsonl", journal->p, journal->n, 0600), 0);
    return fd;
}

static void forget(const char *dir, int fd)
{
    close(fd);
    assert_int_equal(fd_remove_tree(AT_FDCWD, dir), 0);
}

static void add(struct buf *b, int64_t at_ms, const char *app, int64_t line, int64_t messages)
{
    char number[20];
    snprintf(number, sizeof number, "%016llx", (long long)line);
    json_begin(b, NULL, '{');
    json_time(b, "ts", at_ms);
    json_str(b, "event", "interval");
    json_str(b, "stream", "events");
    json_str(b, "app", app);
    json_str(b, "line", number);
    json_i64(b, "messages", messages);
    json_end(b, '}');
    buf_adds(b, "\n");
}

struct sum {
    int64_t messages, n, stop_at;
};

static bool on_interval(void *arg, const struct stream_interval *v, int sign)
{
    struct sum *s = arg;
    s->messages += sign * v->messages;
    return ++s->n != s->stop_at;
}

static int64_t messages_between(int fd, int64_t since_ms, int64_t until_ms)
{
    struct sum s = {0};
    assert_true(stream_log_between(fd, "acme", since_ms, until_ms, on_interval, &s) >= 0);
    return s.messages;
}

static void a_stretch_has_what_was_written_in_it(void **state)
{
    AUTO_BUF struct buf b = {0};
    char dir[64];
    (void)state;
    for (int i = 0; i < N_LINES; i++) {
        add(&b, begin_ms + (int64_t)i * STEP_MS, i % 2 ? "app" : NULL, i, 1);
        if (i % 1000 == 0)
            buf_adds(&b, "{\"ts\":\"20"); /* a crash cut it off */
        if (i % 1000 == 0)
            buf_adds(&b, "\nno JSON\n");
    }
    int fd = home_with(dir, &b);
    unsigned seed = 1;
    assert_int_equal(messages_between(fd, 0, INT64_MAX), N_LINES);
    for (int i = 0; i < 60; i++) {
        int from = rand_r(&seed) % N_LINES, to = from + rand_r(&seed) % (N_LINES - from < LONGEST ? N_LINES - from : LONGEST);
        assert_int_equal(messages_between(fd, begin_ms + (int64_t)from * STEP_MS, begin_ms + (int64_t)to * STEP_MS), to - from);
    }
    assert_int_equal(messages_between(fd, begin_ms - HOUR_MS, begin_ms), 0);
    assert_int_equal(messages_between(fd, begin_ms + (int64_t)N_LINES * STEP_MS, INT64_MAX), 0);
    forget(dir, fd);
}

/* The broker was killed, and started again days later: the line counts where it was written last, and once. */
static void a_line_that_comes_again_counts_once(void **state)
{
    AUTO_BUF struct buf b = {0};
    char dir[64];
    const int64_t later = begin_ms + 100 * (int64_t)HOUR_MS;
    (void)state;
    add(&b, begin_ms, "app", 1, 5);
    add(&b, begin_ms + STEP_MS, "app", 2, 7);
    add(&b, later, NULL, 3, 1);
    add(&b, later + STEP_MS, "app", 2, 9);
    int fd = home_with(dir, &b);
    assert_int_equal(messages_between(fd, begin_ms, begin_ms + HOUR_MS), 5);
    assert_int_equal(messages_between(fd, begin_ms + HOUR_MS, INT64_MAX), 10);
    assert_int_equal(messages_between(fd, 0, INT64_MAX), 15);
    struct sum s = {0}; /* whether more of it may come */
    assert_int_equal(stream_log_between(fd, "acme", 0, begin_ms + STEP_MS, on_interval, &s), 1);
    assert_int_equal(stream_log_between(fd, "acme", 0, later + 2 * STEP_MS, on_interval, &s), 0);
    forget(dir, fd);
}

static void who_reads_may_stop(void **state)
{
    AUTO_BUF struct buf b = {0};
    char dir[64];
    struct sum s = {.stop_at = 3};
    (void)state;
    for (int i = 0; i < 100; i++)
        add(&b, begin_ms + i, NULL, i, 1);
    int fd = home_with(dir, &b);
    assert_int_equal(stream_log_between(fd, "acme", 0, INT64_MAX, on_interval, &s), -ECANCELED);
    assert_int_equal(s.n, 3);
    assert_int_equal(stream_log_between(fd, "nobody", 0, INT64_MAX, on_interval, &s), 0);
    forget(dir, fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stretch_has_what_was_written_in_it),
        cmocka_unit_test(a_line_that_comes_again_counts_once),
        cmocka_unit_test(who_reads_may_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
