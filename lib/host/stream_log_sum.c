/* A closed file becomes a part of stream.days.jsonl, which is written anew beside itself and renamed: either has what the file
 * says, and its first line tells which. The file goes ten minutes later, when nobody reads it any more who looked before that.
 *
 * The last interval of each app is not summed: a broker that was killed may write it again, with the same number, at the beginning
 * of the next file, and then it must not count here. If it did, it is left out when that next file is summed. */
#include "stream_log_reading.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART STREAM_LOG_DAYS ".tmp"
enum { DAY_MS = 86400000, UNREAD_MS = 600000 };

struct summing {
    const struct stream_log_files *files;
    uint64_t number;
    struct map days;   /* by day, stream and app: struct stream_interval */
    struct map firsts; /* by stream and app: the number of the first interval in the file; a string */
    FILE *out;
};

static char *key_of(const struct stream_interval *v)
{
    return xasprintf("%s/%s", v->stream, v->app);
}

static void add_to_day(struct summing *s, const struct stream_interval *v, int sign)
{
    int64_t day = clk_day(v->at_ms);
    AUTO_FREE char *key = xasprintf("%lld/%s/%s", (long long)day, v->stream, v->app);
    struct stream_interval *d = map_get(&s->days, key);
    if (!d) {
        d = xcalloc(1, sizeof *d);
        *d = (struct stream_interval){.at_ms = day * DAY_MS, .of_app = v->of_app};
        memcpy(d->stream, v->stream, sizeof d->stream);
        memcpy(d->app, v->app, sizeof d->app);
        map_put(&s->days, key, d);
    }
    d->messages += sign * v->messages;
    d->bytes += sign * v->bytes;
    d->rows += sign * v->rows;
    d->refused += sign * v->refused;
    d->dead += sign * v->dead;
    d->ms += sign * v->ms;
}

static bool on_interval(void *arg, const struct stream_interval *v, int sign)
{
    struct summing *s = arg;
    AUTO_FREE char *key = key_of(v);
    if (!map_get(&s->firsts, key))
        map_put(&s->firsts, key, xstrdup(v->line));
    add_to_day(s, v, sign);
    return true;
}

/* ---- writing ---- */

static void write_line(struct summing *s, const struct stream_interval *v)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_time(&b, "ts", v->at_ms);
    json_str(&b, "event", "interval");
    json_str(&b, "stream", v->stream);
    json_str(&b, "app", v->of_app ? v->app : NULL);
    json_str(&b, "line", *v->line ? v->line : NULL);
    json_i64(&b, "messages", v->messages);
    json_i64(&b, "bytes", v->bytes);
    json_i64(&b, "rows", v->rows);
    json_i64(&b, "refused", v->refused);
    json_i64(&b, "dead", v->dead);
    json_f64(&b, "avg_ms", v->messages ? v->ms / (double)v->messages : 0);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    fwrite(b.p, 1, b.n, s->out);
}

/* What was there before, but for intervals that came again in this file. */
static void copy_days(struct summing *s)
{
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; s->files->days && (n = getline(&line, &cap, s->files->days)) > 0;) {
        AUTO_BSON bson_t *doc = json_parse(line, (size_t)n, NULL);
        const char *number = doc ? json_get_str(doc, "line", "") : "", *app = doc ? json_get_str(doc, "app", "") : "";
        AUTO_FREE char *key = xasprintf("%s/%s", doc ? json_get_str(doc, "stream", "") : "", app);
        const char *first = map_get(&s->firsts, key);
        if (doc && !(*number && first && !strcmp(first, number)))
            fwrite(line, 1, (size_t)n, s->out);
    }
    free(line);
}

static int by_time(const void *a, const void *b)
{
    const struct stream_interval *x = *(struct stream_interval *const *)a, *y = *(struct stream_interval *const *)b;
    return x->at_ms < y->at_ms            ? -1
           : x->at_ms > y->at_ms          ? 1
           : strcmp(x->stream, y->stream) ? strcmp(x->stream, y->stream)
                                          : strcmp(x->app, y->app);
}

static bool is_nothing(const struct stream_interval *v)
{
    return !v->messages && !v->bytes && !v->rows && !v->refused && !v->dead;
}

static void write_sorted(struct summing *s, struct map *m, bool sums)
{
    AUTO_FREE struct stream_interval **v = xcalloc(m->n + 1, sizeof *v);
    size_t n = 0, i = 0;
    for (struct stream_interval *d; (d = map_next(m, &i));)
        if (!sums || !is_nothing(d))
            v[n++] = d;
    qsort(v, n, sizeof *v, by_time);
    for (i = 0; i < n; i++)
        write_line(s, v[i]);
}

static int write_all(struct summing *s, struct reading *k)
{
    size_t i = 0;
    fprintf(s->out, "{\"event\":\"summed\",\"through\":%llu}\n", (unsigned long long)s->number);
    copy_days(s);
    for (const struct stream_interval *v; (v = map_next(&k->last, &i));)
        add_to_day(s, v, -1);
    write_sorted(s, &s->days, true);
    write_sorted(s, &k->last, false);
    bool bad = (s->files->days && ferror(s->files->days)) || fflush(s->out) || ferror(s->out) || fsync(fileno(s->out)) < 0;
    return bad ? -EIO : 0;
}

/* ---- a file ---- */

static void fini(struct summing *s, struct reading *k)
{
    struct map *const maps[] = {&s->days, &s->firsts};
    for (size_t m = 0; m < 2; m++) {
        size_t i = 0;
        for (void *v; (v = map_next(maps[m], &i));)
            free(v);
        map_fini(maps[m]);
    }
    stream_log_reading_fini(k);
    if (s->out)
        fclose(s->out);
}

static int sum(const struct stream_log_files *f, uint64_t number)
{
    struct summing s = {.files = f, .number = number};
    struct reading k = {.until_ms = INT64_MAX, .fn = on_interval, .arg = &s};
    int r = stream_log_read_closed(&k, f, number);
    int fd = r < 0 ? -1 : openat(f->dirfd, PART, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
    s.out = fd < 0 ? NULL : fdopen(fd, "w");
    if (r >= 0)
        r = s.out ? write_all(&s, &k) : -errno;
    if (r == 0 && (renameat(f->dirfd, PART, f->dirfd, STREAM_LOG_DAYS) < 0 || fsync(f->dirfd) < 0))
        r = -errno;
    fini(&s, &k);
    return r;
}

/* ---- all of them ---- */

/* When it was written last; negative: -errno. */
static int64_t written_ms(int dirfd, const char *name)
{
    struct stat st;
    return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno
                                                              : (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
}

/* Those that were summed, by somebody who may have been killed since. */
static int remove_summed(const struct stream_log_files *f)
{
    int64_t at = written_ms(f->dirfd, STREAM_LOG_DAYS), now = clk_wall_ms();
    int r = 0;
    if (at < 0 || (now >= at && now - at < UNREAD_MS))
        return 0;
    DIR *d = fd_open_dir(f->dirfd, ".");
    for (struct dirent *ent; d && (ent = fd_next_name(d, &r));) {
        uint64_t n = stream_log_closed_number(ent->d_name);
        if (n && n <= f->through && unlinkat(f->dirfd, ent->d_name, 0) < 0 && errno != ENOENT)
            r = -errno;
    }
    if (d)
        closedir(d);
    return r;
}

int stream_log_sum(int home_fd, const char *tenant, int64_t before_ms)
{
    for (int n = 0;; n++) {
        char name[STREAM_LOG_NAME];
        struct stream_log_files f;
        int r = stream_log_files_open(home_fd, tenant, &f);
        if (r < 0)
            return r == -ENOENT ? n : r;
        r = remove_summed(&f);
        bool due = false;
        if (r == 0 && f.n) {
            stream_log_closed_name(f.closed[0], name);
            int64_t at = written_ms(f.dirfd, name);
            due = at >= 0 && at < before_ms;
        }
        if (due)
            r = sum(&f, f.closed[0]);
        stream_log_files_close(&f);
        if (r < 0 || !due)
            return r < 0 ? r : n;
    }
}
