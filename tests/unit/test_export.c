/* What is exported: figures as metrics of OTLP, and files that are followed over renames, restarts and restorations. */
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "check.h"
#include "programs/keeper/follow.h"
#include "programs/keeper/otlp_metrics.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- metrics ---- */

struct told {
    struct buf text;
    int64_t n_points;
    size_t n;
};

static void on_metric(void *arg, const char *json, int64_t n_points)
{
    struct told *t = arg;
    AUTO_BSON bson_t *doc = json_parse(json, strlen(json), NULL);
    assert_non_null(doc);
    buf_adds(&t->text, json);
    buf_adds(&t->text, "\n");
    t->n_points += n_points;
    t->n++;
}

static void write_all(struct otlp_metrics *m, const char *text, int64_t wall_ms, struct told *ret)
{
    buf_reset(&ret->text);
    ret->n_points = 0;
    ret->n = 0;
    otlp_metrics_write(m, text, strlen(text), wall_ms, on_metric, ret);
}

static void metrics(void **state)
{
    (void)state;
    struct otlp_metrics *m = otlp_metrics_new();
    struct told t = {0};
    write_all(
        m,
        "# TYPE x_up gauge\n# HELP x_up Whether.\nx_up 1\nx_up{a=\"b\\\"c\\\\d\\ne\"} 0.5\n"
        "# TYPE x_sent_bytes counter\n# UNIT x_sent_bytes bytes\n# HELP x_sent_bytes Sent.\nx_sent_bytes_total{to=\"y\"} 7\n"
        "# TYPE x_seconds histogram\n# UNIT x_seconds seconds\n# HELP x_seconds Time.\n"
        "x_seconds_bucket{k=\"v\",le=\"0.5\"} 1 # {file_id=\"f1\"} 0.25 1700000000.125\nx_seconds_bucket{k=\"v\",le=\"+Inf\"} 3\n"
        "x_seconds_sum{k=\"v\"} 4.5\nx_seconds_count{k=\"v\"} 3\n",
        1700000000000, &t);
    assert_int_equal(t.n, 3);
    assert_int_equal(t.n_points, 4);
    assert_string_equal(
        t.text.p,
        "{\"name\":\"x_up\",\"description\":\"Whether.\",\"gauge\":{\"dataPoints\":[{\"attributes\":[],\"timeUnixNano\":"
        "\"1700000000000000000\",\"asDouble\":1},{\"attributes\":[{\"key\":\"a\",\"value\":{\"stringValue\":\"b\\\"c\\\\d\\ne\"}}],"
        "\"timeUnixNano\":\"1700000000000000000\",\"asDouble\":0.5}]}}\n"
        "{\"name\":\"x_sent_bytes\",\"description\":\"Sent.\",\"unit\":\"By\",\"sum\":{\"dataPoints\":[{\"attributes\":[{\"key\":"
        "\"to\","
        "\"value\":{\"stringValue\":\"y\"}}],\"startTimeUnixNano\":\"1700000000000000000\",\"timeUnixNano\":"
        "\"1700000000000000000\","
        "\"asDouble\":7}],\"aggregationTemporality\":2,\"isMonotonic\":true}}\n"
        "{\"name\":\"x_seconds\",\"description\":\"Time.\",\"unit\":\"s\",\"histogram\":{\"dataPoints\":[{\"attributes\":[{\"key\":"
        "\"k\",\"value\":{\"stringValue\":\"v\"}}],\"startTimeUnixNano\":\"1700000000000000000\",\"timeUnixNano\":"
        "\"1700000000000000000\",\"count\":\"3\",\"sum\":4.5,\"bucketCounts\":[\"1\",\"2\"],\"explicitBounds\":[0.5],\"exemplars\":"
        "[{\"filteredAttributes\":[{\"key\":\"file_id\",\"value\":{\"stringValue\":\"f1\"}}],\"timeUnixNano\":"
        "\"1700000000125000000\","
        "\"asDouble\":0.25}]}],\"aggregationTemporality\":2}}\n");
    buf_fini(&t.text);
    otlp_metrics_free(m);
}

/* The second of n at which the series began, as the point says. */
static void starts(struct otlp_metrics *m, const char *value, int64_t at_s, int64_t want_s)
{
    struct told t = {0};
    AUTO_FREE char *text = xasprintf("# TYPE c counter\n%s%s%s", *value ? "c_total{a=\"1\"} " : "", value, *value ? "\n" : "");
    AUTO_FREE char *want = xasprintf("\"startTimeUnixNano\":\"%lld000000000\"", (long long)want_s);
    write_all(m, text, at_s * 1000, &t);
    if (*value && !strstr(t.text.p, want))
        fail_msg("no %s in %s", want, t.text.p);
    buf_fini(&t.text);
}

static void since_when(void **state)
{
    (void)state;
    struct otlp_metrics *m = otlp_metrics_new();
    starts(m, "5", 1000, 1000);
    starts(m, "7", 1010, 1000);
    starts(m, "2", 1020, 1010); /* it began anew behind the last time */
    starts(m, "3", 1030, 1010);
    starts(m, "", 1040, 0); /* its program does not answer */
    starts(m, "4", 1050, 1010);
    for (int i = 0; i < 12; i++)
        starts(m, "", 1060 + i, 0);
    starts(m, "9", 1080, 1071); /* one that was forgotten is new */
    otlp_metrics_free(m);
}

static void what_is_none(void **state)
{
    static const char *const texts[] = {
        "",
        "x 1\n",                                                                                     /* no family */
        "# TYPE x gauge\ny 1\n",                                                                     /* another's */
        "# TYPE x gauge\nx 1",                                                                       /* no line */
        "# TYPE x gauge\nx\nx NaN\nx +Inf\nx{\nx{a\nx{a=\nx{a=\"\nx{a=\"b\n",                        /* no number */
        "# TYPE x counter\nx 1\n",                                                                   /* no _total */
        "# TYPE x histogram\nx_count 1\nx_sum 2\n",                                                  /* no buckets */
        "# TYPE x histogram\nx_bucket{le=\"1.0\"} 2\nx_sum 2\nx_count 2\n",                          /* none without a bound */
        "# TYPE x histogram\nx_bucket{le=\"1.0\"} 2\nx_bucket{le=\"+Inf\"} 1\nx_sum 2\nx_count 1\n", /* going down */
        "# TYPE x histogram\nx_bucket{le=\"2.0\"} 1\nx_bucket{le=\"1.0\"} 1\nx_bucket{le=\"+Inf\"} 1\nx_sum 2\nx_count 1\n",
        "# TYPE x histogram\nx_bucket{le=\"+Inf\"} 1\nx_sum 2\nx_count 2\n", /* not so many */
        "# TYPE x summary\nx 1\n# TYPE\n# TYPE \n#\n# HELP\n# UNIT x\n",
    };
    struct otlp_metrics *m = otlp_metrics_new();
    struct told t = {0};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_all(m, texts[i], 1000, &t);
        if (t.n)
            fail_msg("%s: %s", texts[i], t.text.p);
    }
    AUTO_BUF struct buf many = {0};
    buf_adds(&many, "# TYPE x gauge\n");
    for (int i = 0; i < 1200; i++)
        buf_addf(&many, "x{a=\"%d\"} %d\n", i, i);
    write_all(m, many.p, 1000, &t);
    assert_int_equal(t.n, 4); /* not all in one */
    assert_int_equal(t.n_points, 1200);
    buf_fini(&t.text);
    otlp_metrics_free(m);
}

/* ---- files ---- */

struct dir {
    char path[64];
    struct home home;
    struct buf got;
    int64_t at_ms; /* of the next line */
};

static void on_line(void *arg, const char *who, const bson_t *line, int64_t ts_ms)
{
    struct dir *d = arg;
    assert_string_equal(who, "me");
    assert_true(ts_ms > 0);
    buf_addf(&d->got, "%s ", json_get_str(line, "n", ""));
}

static void got(struct dir *d, struct follow *f, const char *want)
{
    buf_reset(&d->got);
    follow_begin(f, on_line, d);
    follow_file(f, "log", "me");
    follow_end(f);
    assert_string_equal(d->got.n ? d->got.p : "", want);
}

/* Lines named by the letters. */
static void add(struct dir *d, const char *names)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FD int fd = openat(d->home.dirfd, "log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    for (; *names; names++, d->at_ms += 10) {
        char name[2] = {*names, 0};
        json_begin(&b, NULL, '{');
        json_time(&b, "ts", d->at_ms);
        json_str(&b, "n", name);
        json_end(&b, '}');
        buf_adds(&b, "\n");
    }
    assert_int_equal(fd_write_all(fd, b.p, b.n), 0);
}

static void rotate(struct dir *d)
{
    assert_int_equal(renameat(d->home.dirfd, "log", d->home.dirfd, "log.1"), 0);
}

static struct follow *again(struct dir *d, struct follow *f)
{
    AUTO_BUF struct buf b = {0};
    follow_tell(f, &b);
    AUTO_BSON bson_t *doc = json_parse(b.p, b.n, NULL);
    assert_non_null(doc);
    follow_free(f);
    f = follow_new(&d->home);
    follow_take(f, doc);
    return f;
}

static void setup_dir(struct dir *d)
{
    *d = (struct dir){.at_ms = clk_wall_ms() + 1000};
    strcpy(d->path, "/tmp/test-export-XXXXXX");
    assert_non_null(mkdtemp(d->path));
    d->home.dirfd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void remove_dir(struct dir *d)
{
    unlinkat(d->home.dirfd, "log", 0);
    unlinkat(d->home.dirfd, "log.1", 0);
    close(d->home.dirfd);
    rmdir(d->path);
    buf_fini(&d->got);
}

static void each_line_once(void **state)
{
    struct dir d;
    (void)state;
    setup_dir(&d);
    struct follow *f = follow_new(&d.home);
    add(&d, "ab");
    got(&d, f, ""); /* from here on */
    add(&d, "cd");
    got(&d, f, "c d ");
    add(&d, "e");
    f = again(&d, f);
    got(&d, f, "e ");
    got(&d, f, "");
    add(&d, "f");
    rotate(&d);
    add(&d, "g");
    f = again(&d, f);
    got(&d, f, "f g ");
    add(&d, "h");
    rotate(&d);
    add(&d, "i");
    rotate(&d);
    add(&d, "j"); /* h is gone */
    got(&d, f, "i j ");
    add(&d, "k");
    got(&d, f, "k ");
    unlinkat(d.home.dirfd, "log", 0);
    got(&d, f, "");
    add(&d, "l"); /* a new tenant's of the same name */
    got(&d, f, "l ");
    follow_free(f);
    remove_dir(&d);
}

static void copy(struct dir *d, const char *name)
{
    AUTO_BUF struct buf b = {0};
    struct err e = {0};
    assert_int_equal(fd_read_file(d->home.dirfd, name, &b, 1 << 20, &e), 0);
    AUTO_FD int fd = openat(d->home.dirfd, "copy", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(fd_write_all(fd, b.p, b.n), 0);
    assert_int_equal(unlinkat(d->home.dirfd, name, 0), 0);
    assert_int_equal(renameat(d->home.dirfd, "copy", d->home.dirfd, name), 0);
}

static void a_restored_home(void **state)
{
    struct dir d;
    (void)state;
    setup_dir(&d);
    struct follow *f = follow_new(&d.home);
    got(&d, f, "");
    add(&d, "abc");
    got(&d, f, "a b c ");
    rotate(&d);
    add(&d, "def");
    got(&d, f, "d e f ");
    copy(&d, "log"); /* the second one may get the number that the first one had */
    copy(&d, "log.1");
    f = again(&d, f);
    add(&d, "g");
    got(&d, f, "g ");
    rotate(&d); /* over the other, and what is begun then may have its number */
    add(&d, "h");
    got(&d, f, "h ");
    follow_free(f);
    remove_dir(&d);
}

static void lines_that_are_none_or_too_old(void **state)
{
    struct dir d;
    AUTO_FREE char *much = xcalloc(1, 300001);
    (void)state;
    setup_dir(&d);
    struct follow *f = follow_new(&d.home);
    got(&d, f, "");
    d.at_ms = clk_wall_ms() - FOLLOW_CATCH_UP_MS - 5000;
    add(&d, "a");
    d.at_ms = clk_wall_ms();
    memset(much, 'x', 300000);
    AUTO_FREE char *text = xasprintf("\n{}\n{\"ts\":1}\n%s\n{\"ts\":\"never\",\"n\":\"z\"}\n", much);
    AUTO_FD int fd = openat(d.home.dirfd, "log", O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    add(&d, "b");
    assert_int_equal(fd_write_all(fd, "{\"ts\":", 6), 0); /* the rest comes later */
    got(&d, f, "b ");
    assert_int_equal(follow_n_old(f), 1);
    AUTO_FREE char *rest = xasprintf("\"2099-01-01T00:00:00.000Z\",\"n\":\"c\"}\n");
    assert_int_equal(fd_write_all(fd, rest, strlen(rest)), 0);
    got(&d, f, "c ");
    follow_free(f);
    remove_dir(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(metrics),         cmocka_unit_test(since_when),
                                       cmocka_unit_test(what_is_none),    cmocka_unit_test(each_line_once),
                                       cmocka_unit_test(a_restored_home), cmocka_unit_test(lines_that_are_none_or_too_old)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
