#include "stream_log.h"
#include "stream_log_reading.h"

#include "base/clk.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLACK_MS = 3600000, NEAR_BYTES = 65536 };

static bool tell(struct reading *k, const struct stream_interval *v, int sign)
{
    return v->at_ms < k->since_ms || v->at_ms >= k->until_ms || k->fn(k->arg, v, sign);
}

/* The line that comes again after a kill is among the first that a new broker writes, however much later that is. */
static bool is_behind(struct reading *k, int64_t at_ms)
{
    if (!k->end_ms && at_ms >= k->until_ms)
        k->end_ms = at_ms > INT64_MAX - SLACK_MS ? INT64_MAX : at_ms + SLACK_MS;
    return k->end_ms && at_ms >= k->end_ms;
}

/* 0; 1: what follows need not be read; -ECANCELED. */
static int add_line(struct reading *k, const bson_t *line)
{
    const char *app = json_get_str(line, "app", NULL);
    struct stream_interval v = {.of_app = app != NULL, .messages = json_get_i64(line, "messages", 0)};
    if (strcmp(json_get_str(line, "event", ""), "interval") || clk_parse(json_get_str(line, "ts", ""), &v.at_ms) < 0)
        return 0;
    if (!k->is_days && is_behind(k, v.at_ms))
        return 1;
    AUTO_FREE char *key = xasprintf("%s/%s", json_get_str(line, "stream", ""), app ? app : "");
    snprintf(v.stream, sizeof v.stream, "%s", json_get_str(line, "stream", ""));
    snprintf(v.app, sizeof v.app, "%s", app ? app : "");
    snprintf(v.line, sizeof v.line, "%s", json_get_str(line, "line", ""));
    v.bytes = json_get_i64(line, "bytes", 0);
    v.rows = json_get_i64(line, "rows", 0);
    v.refused = json_get_i64(line, "refused", 0);
    v.dead = json_get_i64(line, "dead", 0);
    v.ms = (double)v.messages * json_get_f64(line, "avg_ms", 0);
    struct stream_interval *was = map_get(&k->last, key);
    bool again = was && *v.line && !strcmp(was->line, v.line);
    if (!was) {
        was = xcalloc(1, sizeof *was);
        map_put(&k->last, key, was);
    }
    if (again && !tell(k, was, -1))
        return -ECANCELED;
    *was = v;
    return tell(k, was, 1) ? 0 : -ECANCELED;
}

/* When the first whole line behind `at` was written; -1: there is none. */
static int64_t time_behind(FILE *f, off_t at)
{
    char *line = NULL;
    size_t cap = 0;
    int64_t ms = -1;
    if (fseeko(f, at, SEEK_SET) < 0)
        return -1;
    bool whole = at == 0;
    for (ssize_t n; ms < 0 && (n = getline(&line, &cap, f)) > 0; whole = true) {
        AUTO_BSON bson_t *doc = whole ? json_parse(line, (size_t)n, NULL) : NULL;
        if (doc && clk_parse(json_get_str(doc, "ts", ""), &ms) < 0)
            ms = -1;
    }
    free(line);
    return ms;
}

/* Goes to a place before which all lines are older. */
static void go_to(FILE *f, int64_t since_ms)
{
    off_t low = 0, high = 0;
    int c = 0;
    if (since_ms > 0 && fseeko(f, 0, SEEK_END) == 0)
        high = ftello(f);
    while (high - low > NEAR_BYTES) {
        off_t middle = low + (high - low) / 2;
        int64_t ms = time_behind(f, middle);
        if (ms >= 0 && ms < since_ms)
            low = middle;
        else
            high = middle;
    }
    fseeko(f, low, SEEK_SET);
    while (low && (c = getc(f)) != EOF && c != '\n') {
    }
}

/* As add_line. */
static int read_lines(struct reading *k, FILE *f)
{
    char *line = NULL;
    size_t cap = 0;
    int r = 0;
    for (ssize_t n; r == 0 && (n = getline(&line, &cap, f)) > 0;) {
        AUTO_BSON bson_t *doc = json_parse(line, (size_t)n, NULL); /* a crash may have cut off the last line */
        if (doc)
            r = add_line(k, doc);
    }
    if (r == 0 && ferror(f))
        r = -EIO;
    free(line);
    return r;
}

/* Sums of days are not in order with each other, and are few. */
static int read_days(struct reading *k, FILE *f)
{
    k->is_days = true;
    int r = read_lines(k, f);
    k->is_days = false;
    return r;
}

int stream_log_read_closed(struct reading *k, const struct stream_log_files *f, uint64_t number)
{
    FILE *file = stream_log_closed_open(f, number);
    if (!file)
        return errno == ENOENT ? 0 : -errno;
    go_to(file, k->since_ms - SLACK_MS);
    int r = read_lines(k, file);
    fclose(file);
    return r;
}

static int read_all(struct reading *k, const struct stream_log_files *f)
{
    int r = f->days ? read_days(k, f->days) : 0;
    for (size_t i = 0; r == 0 && i < f->n; i++)
        r = stream_log_read_closed(k, f, f->closed[i]);
    if (r == 0 && f->current) {
        go_to(f->current, k->since_ms - SLACK_MS);
        r = read_lines(k, f->current);
    }
    return r;
}

void stream_log_reading_fini(struct reading *k)
{
    size_t i = 0;
    for (void *v; (v = map_next(&k->last, &i));)
        free(v);
    map_fini(&k->last);
}

int stream_log_between(int home_fd, const char *tenant, int64_t since_ms, int64_t until_ms,
                       bool (*fn)(void *arg, const struct stream_interval *v, int sign), void *arg)
{
    struct reading k = {.since_ms = since_ms, .until_ms = until_ms, .fn = fn, .arg = arg};
    struct stream_log_files f;
    int r = stream_log_files_open(home_fd, tenant, &f);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    r = read_all(&k, &f);
    stream_log_files_close(&f);
    stream_log_reading_fini(&k);
    return r;
}

struct always {
    void (*fn)(void *arg, const struct stream_interval *v, int sign);
    void *arg;
};

static bool and_go_on(void *arg, const struct stream_interval *v, int sign)
{
    struct always *a = arg;
    a->fn(a->arg, v, sign);
    return true;
}

int stream_log_read(int home_fd, const char *tenant, void (*fn)(void *arg, const struct stream_interval *v, int sign), void *arg)
{
    int r = stream_log_between(home_fd, tenant, 0, INT64_MAX, and_go_on, &(struct always){fn, arg});
    return r < 0 ? r : 0;
}
