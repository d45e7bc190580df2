/* What the monitor keeps of the last hours: by the calendar, in a file that outlives it. The clock is ours. */
#include "check.h"

#include "programs/monitor/past.h"

#include "base/fd.h"
#include "base/json.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const int64_t start = INT64_C(1700000000000);
static char path[64];

static int begin(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/simbdp-past-%d", (int)getpid());
    unlink(path);
    return 0;
}

static int end(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static struct past *opened(void)
{
    struct err e = {0};
    struct past *p = past_open(path, &e);
    assert_int_equal(e.code, 0);
    return p;
}

static void add(struct past *p, const char *app, int64_t at, double in, double instances)
{
    past_add(p, "acme", app, at, &(struct past_figures){in, 1, NAN, 2, instances, 3});
}

static bson_t *shown(const struct past *p, const char *app, int64_t since, int64_t now)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    past_json(p, "acme", app, since, now, &b);
    json_end(&b, '}');
    bson_t *doc = json_parse(b.p, b.n, NULL);
    assert_non_null(doc);
    return doc;
}

static size_t n_of(const bson_t *doc, const char *key)
{
    bson_iter_t it;
    size_t n = 0;
    assert_true(json_get_iter(doc, key, &it));
    while (bson_iter_next(&it))
        n++;
    return n;
}

/* Figure k of point i; NaN: null. */
static double figure(const bson_t *doc, const char *i, const char *k)
{
    bson_iter_t it, at;
    char dotted[64];
    snprintf(dotted, sizeof dotted, "points.%s.%s", i, k);
    assert_true(bson_iter_init(&it, doc) && bson_iter_find_descendant(&it, dotted, &at));
    return BSON_ITER_HOLDS_NULL(&at) ? NAN : bson_iter_as_double(&at);
}

static void points_are_means_and_the_most(void **state)
{
    struct past *p = opened();
    (void)state;
    for (int i = 0; i < 10; i++)
        add(p, "work", start + i * 1000, i, i == 5 ? 4 : 1);
    add(p, "work", start + PAST_STEP_MS, 100, 2);
    AUTO_BSON bson_t *doc = shown(p, "work", 0, start + 2 * PAST_STEP_MS);
    assert_int_equal(n_of(doc, "points"), 2);
    assert_true(figure(doc, "0", "0") == (double)start / 1000 && figure(doc, "1", "0") == (double)(start + PAST_STEP_MS) / 1000);
    assert_true(figure(doc, "0", "1") == 4.5 && figure(doc, "1", "1") == 100);
    assert_true(isnan(figure(doc, "0", "3")));
    assert_true(figure(doc, "0", "5") == 4 && figure(doc, "0", "6") == 3);
    AUTO_BSON bson_t *later = shown(p, "work", start + PAST_STEP_MS, start + 2 * PAST_STEP_MS);
    assert_int_equal(n_of(later, "points"), 1);
    past_close(p);
}

static void it_outlives_the_program(void **state)
{
    struct past *p = opened();
    struct past_decision d = {start, 1, 4, "500 wait"};
    (void)state;
    add(p, "work", start, 7, 1);
    past_decide(p, "acme", "work", &d);
    past_close(p);
    p = opened();
    AUTO_BSON bson_t *doc = shown(p, "work", 0, start);
    assert_true(n_of(doc, "points") == 1 && figure(doc, "0", "1") == 7);
    assert_int_equal(n_of(doc, "decisions"), 1);
    past_close(p);
}

static void what_is_older_than_the_ring_is_gone(void **state)
{
    struct past *p = opened();
    int64_t now = start;
    (void)state;
    for (int i = 0; i < PAST_POINTS + 100; i++, now += PAST_STEP_MS)
        add(p, "work", now, i, 1);
    for (int i = 0; i < PAST_DECISIONS + 10; i++)
        past_decide(p, "acme", "work", &(struct past_decision){start + i, i, i + 1, "why"});
    now -= PAST_STEP_MS;
    AUTO_BSON bson_t *doc = shown(p, "work", 0, now);
    assert_int_equal(n_of(doc, "points"), PAST_POINTS);
    assert_true(figure(doc, "0", "1") == 100);
    assert_int_equal(n_of(doc, "decisions"), PAST_DECISIONS);
    AUTO_BSON bson_t *long_after = shown(p, "work", 0, now + (int64_t)PAST_POINTS * PAST_STEP_MS);
    assert_int_equal(n_of(long_after, "points"), 0); /* nothing was heard for as long */
    past_close(p);
}

static void idle_apps_have_no_place_and_the_oldest_makes_room(void **state)
{
    struct past *p = opened();
    struct stat st;
    char app[32];
    (void)state;
    past_add(p, "acme", "idle", start, &(struct past_figures){0, 0, 0, NAN, 0, 0});
    assert_true(stat(path, &st) == 0 && st.st_size <= 4096);
    for (int i = 0; i < PAST_APPS + 1; i++) {
        snprintf(app, sizeof app, "app%d", i);
        add(p, app, start + (int64_t)i * PAST_STEP_MS, 1, 1);
    }
    int64_t now = start + (int64_t)(PAST_APPS + 1) * PAST_STEP_MS;
    AUTO_BSON bson_t *first = shown(p, "app0", 0, now), *second = shown(p, "app1", 0, now), *last = shown(p, app, 0, now);
    assert_true(n_of(first, "points") == 0 && n_of(second, "points") == 1 && n_of(last, "points") == 1);
    assert_true(stat(path, &st) == 0);
    off_t full = st.st_size;
    struct map apps = {0};
    map_put(&apps, "acme/app1", p);
    past_keep(p, &apps);
    map_fini(&apps);
    AUTO_BSON bson_t *kept = shown(p, "app1", 0, now), *gone = shown(p, app, 0, now);
    assert_true(n_of(kept, "points") == 1 && n_of(gone, "points") == 0);
    past_forget(p, "acme", "app1");
    add(p, "new", now, 1, 1);
    AUTO_BSON bson_t *forgotten = shown(p, "app1", 0, now);
    assert_int_equal(n_of(forgotten, "points"), 0);
    assert_true(stat(path, &st) == 0 && st.st_size == full); /* places are used again */
    past_close(p);
}

static void put(const void *bytes, size_t n)
{
    AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    assert_true(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
}

/* A file of garbage, one that was cut, a link: nothing is read of it, and what is added is kept. */
static void a_file_that_is_none_of_ours(void **state)
{
    static unsigned char garbage[1 << 18];
    struct err e = {0};
    (void)state;
    memset(garbage, 0xa5, sizeof garbage);
    for (size_t n = 1; n <= sizeof garbage; n *= 8) {
        put(garbage, n);
        struct past *p = opened();
        add(p, "work", start, 7, 1);
        AUTO_BSON bson_t *doc = shown(p, "work", 0, start);
        assert_true(n_of(doc, "points") == 1 && n_of(doc, "decisions") == 0);
        past_close(p);
    }
    assert_true(truncate(path, 5000) == 0); /* its slot is gone */
    struct past *p = opened();
    AUTO_BSON bson_t *none = shown(p, "work", 0, start);
    assert_int_equal(n_of(none, "points"), 0);
    add(p, "work", start, 7, 1);
    past_close(p);
    unlink(path);
    assert_int_equal(symlink("/etc/hostname", path), 0);
    p = past_open(path, &e);
    assert_true(e.code < 0);
    add(p, "work", start, 7, 1);
    AUTO_BSON bson_t *doc = shown(p, "work", 0, start);
    assert_int_equal(n_of(doc, "points"), 1); /* in memory */
    past_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(points_are_means_and_the_most, begin, end),
        cmocka_unit_test_setup_teardown(it_outlives_the_program, begin, end),
        cmocka_unit_test_setup_teardown(what_is_older_than_the_ring_is_gone, begin, end),
        cmocka_unit_test_setup_teardown(idle_apps_have_no_place_and_the_oldest_makes_room, begin, end),
        cmocka_unit_test_setup_teardown(a_file_that_is_none_of_ours, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
