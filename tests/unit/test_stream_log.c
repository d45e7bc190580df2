/* Stretches of a tenant's journal: what is read of it by looking for the place has to be what reading all of it gives. */
#include "check.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/stream_log.h"
#include "host/stream_log_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

/* ---- files that were closed ---- */

enum { DAY_MS = 86400000, N_APPS = 3 };

/* A journal of `n` lines. Now and then its file is closed, and then or at other times the broker was killed: the line that came
 * last comes again. The same of a seed, however it is kept. Returns the directory; n_closed NULL: it stays one file. */
static int grow(char dir[64], int n, unsigned seed, int *n_closed)
{
    strcpy(dir, "/tmp/simbdp-log-XXXXXX");
    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < n; i++) {
        bool closes = i && (rand_r(&seed) >> 8) % 60 == 0, again = i && (rand_r(&seed) >> 8) % (closes ? 2 : 50) == 0;
        if (closes && n_closed) {
            stream_log_rotate(fd, "acme", 0);
            ++*n_closed;
        }
        for (int k = again ? i - 1 : i; k <= i; k++) {
            AUTO_BUF struct buf b = {0};
            char app[8];
            snprintf(app, sizeof app, "app%d", k / 2 % N_APPS); /* so that a line may come again behind others */
            add(&b, begin_ms + (int64_t)i * 60 * STEP_MS + k - i + 1, k / 2 % N_APPS ? app : NULL, k, 1 + k % 7);
            assert_int_equal(fd_append_file(fd, "logs/tenants/acme", "stream.jsonl", b.p, b.n, 0600), 0);
        }
    }
    return fd;
}

static void same_days(int a, int b, int n)
{
    int64_t days = (int64_t)n * 60 * STEP_MS / DAY_MS + 1;
    for (int64_t from = 0; from < days; from++)
        for (int64_t to = from + 1; to <= days; to += 3)
            assert_int_equal(messages_between(a, begin_ms + from * DAY_MS, begin_ms + to * DAY_MS),
                             messages_between(b, begin_ms + from * DAY_MS, begin_ms + to * DAY_MS));
    assert_int_equal(messages_between(a, 0, INT64_MAX), messages_between(b, 0, INT64_MAX));
}

static int n_files(int fd)
{
    DIR *d = fd_open_dir(fd, "logs/tenants/acme");
    int n = 0, r = 0;
    while (fd_next_name(d, &r))
        n++;
    closedir(d);
    assert_int_equal(r, 0);
    return n;
}

static void set_time(int fd, const char *name, int64_t wall_ms)
{
    AUTO_FREE char *path = xasprintf("logs/tenants/acme/%s", name);
    const struct timespec t[] = {{wall_ms / 1000, 0}, {wall_ms / 1000, 0}};
    assert_int_equal(utimensat(fd, path, t, 0), 0);
}

static void what_is_closed_and_summed_is_still_there(void **state)
{
    enum { N = 2000 };
    char whole[64], parts[64], newest[32], next[32];
    (void)state;
    for (unsigned seed = 1; seed <= 5; seed++) {
        int closed = 0, a = grow(whole, N, seed, NULL), b = grow(parts, N, seed, &closed), files = n_files(b);
        assert_true(closed > 20 && files == closed + 1);
        assert_true(stream_log_newest_closed(b, "acme", newest));
        same_days(a, b, N);
        int64_t soon = clk_wall_ms() + DAY_MS;
        assert_int_equal(stream_log_sum(b, "acme", 0), 0);
        /* Some of them; then again, which says the same; then all. */
        for (int i = 1; i <= 5; i++) {
            char name[32];
            snprintf(name, sizeof name, "stream.%012d.jsonl", i);
            set_time(b, name, 1000);
        }
        assert_int_equal(stream_log_sum(b, "acme", 2000), 5);
        same_days(a, b, N);
        assert_int_equal(stream_log_sum(b, "acme", soon), files - 1 - 5);
        assert_int_equal(stream_log_sum(b, "acme", soon), 0);
        same_days(a, b, N);
        /* Whoever began before may still read them. */
        assert_int_equal(n_files(b), files + 1);
        set_time(b, "stream.days.jsonl", clk_wall_ms() - 700000);
        assert_int_equal(stream_log_sum(b, "acme", soon), 0);
        assert_int_equal(n_files(b), 2);
        assert_false(stream_log_newest_closed(b, "acme", newest));
        same_days(a, b, N);
        /* Numbers go on behind those that are gone. */
        stream_log_rotate(b, "acme", 1);
        snprintf(next, sizeof next, "stream.%012d.jsonl", files);
        assert_true(stream_log_newest_closed(b, "acme", newest));
        assert_string_equal(newest, next);
        same_days(a, b, N);
        forget(whole, a);
        forget(parts, b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_closed_and_summed_is_still_there),
        cmocka_unit_test(a_stretch_has_what_was_written_in_it),
        cmocka_unit_test(a_line_that_comes_again_counts_once),
        cmocka_unit_test(who_reads_may_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
