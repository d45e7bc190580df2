#include "traces.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "host/tenant_events.h"

#include <dirent.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { TURN_BYTES = 1 << 20, MAX_FILES = 200000, PIECE = 256 << 10, TRACE_BYTES = 16, SPAN_BYTES = 8 };

/* Of a tenant: how far its journal was read. */
struct place {
    ino_t ino;
    off_t at;
};

/* A file on its way. */
struct way {
    int64_t received_ms, queued_ms; /* 0: not known */
};

struct traces {
    const struct home *home;
    struct map places, ways; /* by tenant, by file */
    bool begun;
    traces_span_fn *fn;
    void *arg;
};

struct traces *traces_new(const struct home *h)
{
    struct traces *t = xcalloc(1, sizeof *t);
    t->home = h;
    return t;
}

void traces_free(struct traces *t)
{
    size_t i = 0;
    if (!t)
        return;
    for (void *p; (p = map_next(&t->places, &i));)
        free(p);
    i = 0;
    for (void *p; (p = map_next(&t->ways, &i));)
        free(p);
    map_fini(&t->places);
    map_fini(&t->ways);
    free(t);
}

/* ---- spans ---- */

/* Hex digits of n bytes that depend on what they are for alone, and are not all zero. */
static void id_of(const char *kind, const char *of, size_t n, char *ret)
{
    unsigned char hash[crypto_hash_sha256_BYTES];
    AUTO_FREE char *text = xasprintf("%s:%s", kind, of);
    crypto_hash_sha256(hash, (const unsigned char *)text, strlen(text));
    hash[0] |= 1;
    sodium_bin2hex(ret, 2 * n + 1, hash, n);
}

static void add_attribute(struct buf *b, const char *key, const char *type, const char *value)
{
    json_begin(b, NULL, '{');
    json_str(b, "key", key);
    json_begin(b, "value", '{');
    json_str(b, type, value);
    json_end(b, '}');
    json_end(b, '}');
}

static void add_str(struct buf *b, const char *key, const char *value)
{
    if (value)
        add_attribute(b, key, "stringValue", value);
}

/* 64 bits are texts in this mapping. */
static void add_count(struct buf *b, const char *key, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    if (value >= 0)
        add_attribute(b, key, "intValue", text);
}

static void add_nanos(struct buf *b, const char *key, int64_t ms)
{
    char text[32];
    snprintf(text, sizeof text, "%lld000000", (long long)(ms > 0 ? ms : 0));
    json_str(b, key, text);
}

struct span {
    const char *name, *trace_of, *id_of; /* id_of NULL: it is the file's own */
    int64_t from_ms, to_ms;
    const char *failed; /* NULL: it did not */
};

static void tell(struct traces *t, const struct span *s, const bson_t *line)
{
    AUTO_BUF struct buf b = {0};
    char trace[2 * TRACE_BYTES + 1], id[2 * SPAN_BYTES + 1], parent[2 * SPAN_BYTES + 1];
    AUTO_FREE char *own = xasprintf("%s:%s", s->name, s->id_of ? s->id_of : "");
    id_of("trace", s->trace_of, TRACE_BYTES, trace);
    id_of("file", s->trace_of, SPAN_BYTES, parent);
    id_of(own, s->trace_of, SPAN_BYTES, id);
    json_begin(&b, NULL, '{');
    json_str(&b, "traceId", trace);
    json_str(&b, "spanId", s->id_of ? id : parent);
    if (s->id_of)
        json_str(&b, "parentSpanId", parent);
    json_str(&b, "name", s->name);
    json_i64(&b, "kind", 1);
    add_nanos(&b, "startTimeUnixNano", s->from_ms < s->to_ms ? s->from_ms : s->to_ms);
    add_nanos(&b, "endTimeUnixNano", s->to_ms);
    json_begin(&b, "attributes", '[');
    static const char *const texts[] = {"tenant_id", "dataset", "file_id", "file_name", "app",
                                        "run_id",    "state",   "reason",  "outcome",   "limit"};
    static const char *const counts[] = {"size_bytes", "rows", "rows_loaded", "rows_rejected", "attempt", "n_files", "exit_code"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        add_str(&b, texts[i], json_get_str(line, texts[i], NULL));
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        add_count(&b, counts[i], json_get_i64(line, counts[i], -1));
    json_end(&b, ']');
    json_begin(&b, "status", '{');
    json_i64(&b, "code", s->failed ? 2 : 1);
    if (s->failed)
        json_str(&b, "message", s->failed);
    json_end(&b, '}');
    json_end(&b, '}');
    t->fn(t->arg, b.p);
}

/* ---- lines ---- */

static struct way *way_of(struct traces *t, const char *file_id)
{
    struct way *w = map_get(&t->ways, file_id);
    if (w || t->ways.n >= MAX_FILES) /* spans of those beyond lack, but for their own and their runs' */
        return w;
    w = xcalloc(1, sizeof *w);
    map_put(&t->ways, file_id, w);
    return w;
}

/* Of a run of several files the trace is its own. */
static void see_run(struct traces *t, const bson_t *line, int64_t ts_ms)
{
    const char *run_id = json_get_str(line, "run_id", ""), *file_id = json_get_str(line, "file_id", run_id);
    const char *outcome = json_get_str(line, "outcome", ""), *step = json_get_str(line, "step", "app");
    double wall_s = json_get_f64(line, "wall_s", 0);
    bool well = !strcmp(outcome, "ok");
    tell(t,
         &(struct span){!strcmp(step, "app") ? "run" : step, file_id, run_id,
                        ts_ms - (int64_t)((wall_s > 0 && wall_s < 1e9 ? wall_s : 0) * 1000), ts_ms,
                        well ? NULL : json_get_str(line, "error", outcome)},
         line);
}

static void see_verdict(struct traces *t, const char *file_id, const bson_t *line, int64_t ts_ms)
{
    int64_t received_ms = ts_ms;
    const char *state = json_get_str(line, "state", "");
    bool well = !strcmp(state, "ingested") || !strcmp(state, "duplicate");
    clk_parse(json_get_str(line, "received_at", ""), &received_ms);
    tell(t, &(struct span){"file", file_id, NULL, received_ms, ts_ms, well ? NULL : json_get_str(line, "detail", state)}, line);
    free(map_remove(&t->ways, file_id));
}

static void see_line(struct traces *t, const char *text, size_t n)
{
    AUTO_BSON bson_t *line = json_parse(text, n, NULL);
    const char *event = line ? json_get_str(line, "event", "") : "", *file_id = line ? json_get_str(line, "file_id", "") : "";
    int64_t ts_ms;
    if (!line || clk_parse(json_get_str(line, "ts", ""), &ts_ms) < 0)
        return;
    int e = tenant_event_of_line(EVENTS_OF_batch, event);
    if (e == EVENT_run_ended)
        see_run(t, line, ts_ms);
    else if (e == EVENT_file_verdict)
        see_verdict(t, file_id, line, ts_ms);
    struct way *w = e == EVENT_file_received || e == EVENT_file_inspected || e == EVENT_file_queued || e == EVENT_file_running
                        ? way_of(t, file_id)
                        : NULL;
    if (w && e == EVENT_file_received)
        w->received_ms = ts_ms;
    else if (w && e == EVENT_file_queued)
        w->queued_ms = ts_ms;
    else if (w && e == EVENT_file_inspected && w->received_ms)
        tell(t, &(struct span){"inspect", file_id, json_get_str(line, "ts", ""), w->received_ms, ts_ms, NULL}, line);
    else if (w && e == EVENT_file_running && w->queued_ms)
        tell(t, &(struct span){"queue", file_id, json_get_str(line, "ts", ""), w->queued_ms, ts_ms, NULL}, line);
}

/* ---- journals ---- */

/* Whole lines from there on, as many as there is room for in this turn. False: there may be more. */
static bool read_lines(struct traces *t, int fd, off_t *at, size_t *left)
{
    static char piece[PIECE];
    for (;;) {
        ssize_t n = *left >= sizeof piece ? pread(fd, piece, sizeof piece, *at) : -1;
        char *end = n > 0 ? memrchr(piece, '\n', (size_t)n) : NULL;
        if (!end && n < (ssize_t)sizeof piece)
            return n >= 0;
        if (!end) { /* no line of ours is as long */
            *at += n;
            *left -= (size_t)n;
            continue;
        }
        for (char *p = piece, *lf; p <= end; p = lf + 1) {
            lf = memchr(p, '\n', (size_t)(end + 1 - p));
            see_line(t, p, (size_t)(lf - p));
        }
        *at += end + 1 - piece;
        *left -= (size_t)n;
    }
}

/* The one that was renamed is read to its end first. */
static void follow(struct traces *t, const char *tenant, struct place *p, size_t *left)
{
    AUTO_FREE char *path = xasprintf("logs/tenants/%s/%s", tenant, events_file(EVENTS_OF_batch)), *old = xasprintf("%s.1", path);
    struct stat st;
    if (fstatat(t->home->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
        (st.st_ino == p->ino && st.st_size == p->at))
        return;
    AUTO_FD int fd =
        openat(t->home->dirfd, p->ino && st.st_ino != p->ino ? old : path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)))
        return;
    if (fd >= 0 && (!p->ino || st.st_ino == p->ino)) {
        p->at = !p->ino && !t->begun ? st.st_size : st.st_size < p->at ? 0 : p->at;
        bool was_new = p->ino == 0;
        p->ino = st.st_ino;
        if (!read_lines(t, fd, &p->at, left) || was_new)
            return;
    }
    if (fstatat(t->home->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino != p->ino)
        *p = (struct place){st.st_ino, 0}; /* read in the next turn */
}

void traces_follow(struct traces *t, traces_span_fn *fn, void *arg)
{
    size_t left = TURN_BYTES;
    DIR *d = fd_open_dir(t->home->dirfd, "logs/tenants");
    t->fn = fn;
    t->arg = arg;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!conf_valid_id(e->d_name))
            continue;
        struct place *p = map_get(&t->places, e->d_name);
        if (!p) {
            p = xcalloc(1, sizeof *p);
            map_put(&t->places, e->d_name, p);
        }
        follow(t, e->d_name, p, &left);
    }
    if (d)
        closedir(d);
    t->begun = true;
}
