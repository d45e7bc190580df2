#include "traces.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "host/tenant_events.h"
#include "host/trace_ids.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { TURN_BYTES = 1 << 20, PIECE = 256 << 10 };

/* Of a tenant: how far its journal was read. */
struct place {
    ino_t ino;
    off_t at;
};

struct traces {
    const struct home *home;
    struct map places; /* by tenant */
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
    map_fini(&t->places);
    free(t);
}

/* ---- spans ---- */

static void add_attribute(struct buf *b, const char *key, const char *type, const char *value)
{
    json_begin(b, NULL, '{');
    json_str(b, "key", key);
    json_begin(b, "value", '{');
    json_str(b, type, value);
    json_end(b, '}');
    json_end(b, '}');
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
    const char *name, *of; /* of: a file, or a run of several */
    const char *step_id;   /* NULL: it is the whole's own */
    int64_t from_ms, to_ms;
    const char *failed, *error_type; /* NULL: it did not */
    const char *link;                /* a run of several that it had a part in; NULL: none */
};

/* Fields of a line, and what they are called in a span. Where OpenTelemetry's semantic conventions (1.27) have a name, it is that.
 */
static const struct {
    const char *key, *name;
} texts[] = {{"tenant_id", "tenant_id"}, {"dataset", "dataset"}, {"file_id", "file_id"},
             {"file_name", "file.name"}, {"app", "app"},         {"run_id", "run_id"},
             {"step", "step"},           {"state", "state"},     {"reason", "reason"},
             {"outcome", "outcome"},     {"limit", "limit"}},
  counts[] = {{"size_bytes", "file.size"},        {"rows", "rows"},       {"rows_loaded", "rows_loaded"},
              {"rows_rejected", "rows_rejected"}, {"attempt", "attempt"}, {"n_files", "n_files"},
              {"exit_code", "process.exit.code"}};

static void add_attributes(struct buf *b, const struct span *s, const bson_t *line)
{
    json_begin(b, "attributes", '[');
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *value = json_get_str(line, texts[i].key, NULL);
        if (value)
            add_attribute(b, texts[i].name, "stringValue", value);
    }
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        add_count(b, counts[i].name, json_get_i64(line, counts[i].key, -1));
    if (s->failed)
        add_attribute(b, "error.type", "stringValue", s->error_type ? s->error_type : "_OTHER");
    json_end(b, ']');
}

static void add_link(struct buf *b, const char *run_id)
{
    struct trace_context to;
    trace_of(NULL, run_id, &to);
    json_begin(b, "links", '[');
    json_begin(b, NULL, '{');
    json_str(b, "traceId", to.trace);
    json_str(b, "spanId", to.span);
    json_end(b, '}');
    json_end(b, ']');
}

/* Whose it is below: of the whole, whoever sent it; of a step, the whole. */
static void add_ids(struct buf *b, const struct span *s, const char *kept, const struct trace_context *whole)
{
    struct trace_context own, sender;
    AUTO_FREE char *parent = kept ? xstrndup(kept, strcspn(kept, " ")) : NULL;
    if (s->step_id)
        trace_of_step(kept, s->of, s->name, s->step_id, &own);
    json_str(b, "traceId", whole->trace);
    json_str(b, "spanId", s->step_id ? own.span : whole->span);
    if (*trace_kept_state(kept))
        json_str(b, "traceState", trace_kept_state(kept));
    if (s->step_id)
        json_str(b, "parentSpanId", whole->span);
    else if (trace_parent_read(parent, &sender) == 0)
        json_str(b, "parentSpanId", sender.span);
}

static void tell(struct traces *t, const struct span *s, const bson_t *line)
{
    AUTO_BUF struct buf b = {0};
    struct trace_context whole;
    bool several = json_get_i64(line, "n_files", 1) > 1 && !strcmp(s->of, json_get_str(line, "run_id", ""));
    const char *kept = several ? NULL : json_get_str(line, "trace", NULL);
    trace_of(kept, s->of, &whole);
    if (!whole.sampled) /* its sender does not record it, nor does whoever is asked by us */
        return;
    json_begin(&b, NULL, '{');
    add_ids(&b, s, kept, &whole);
    json_str(&b, "name", s->name);
    json_i64(&b, "kind", 1); /* internal */
    add_nanos(&b, "startTimeUnixNano", s->from_ms < s->to_ms ? s->from_ms : s->to_ms);
    add_nanos(&b, "endTimeUnixNano", s->to_ms);
    add_attributes(&b, s, line);
    if (s->link)
        add_link(&b, s->link);
    json_begin(&b, "status", '{');
    json_i64(&b, "code", s->failed ? 2 : 1);
    if (s->failed)
        json_str(&b, "message", s->failed);
    json_end(&b, '}');
    json_end(&b, '}');
    t->fn(t->arg, b.p);
}

/* ---- lines ---- */

/* The time in that field; or_ms: there is none. */
static int64_t time_of(const bson_t *line, const char *key, int64_t or_ms)
{
    int64_t ms = or_ms;
    clk_parse(json_get_str(line, key, ""), &ms);
    return ms;
}

/* Of a run of several files the trace is its own, below `group`. Where the loading followed the app's step, both are told. */
static void see_run(struct traces *t, const bson_t *line, int64_t ts_ms)
{
    const char *run_id = json_get_str(line, "run_id", ""), *step = json_get_str(line, "step", "app");
    const char *outcome = json_get_str(line, "outcome", "");
    bool several = json_get_i64(line, "n_files", 1) > 1, well = !strcmp(outcome, "ok");
    double wall_s = json_get_f64(line, "wall_s", 0); /* before `started_at` was told */
    int64_t from_ms = time_of(line, "started_at", ts_ms - (int64_t)((wall_s > 0 && wall_s < 1e9 ? wall_s : 0) * 1000));
    int64_t load_ms = time_of(line, "load_at", 0);
    struct span s = {.name = !strcmp(step, "app") ? "run" : step,
                     .of = several ? run_id : json_get_str(line, "file_id", run_id),
                     .step_id = run_id,
                     .from_ms = load_ms ? load_ms : from_ms,
                     .to_ms = ts_ms,
                     .failed = well ? NULL : json_get_str(line, "error", outcome),
                     .error_type = outcome};
    struct span app = {.name = "run", .of = s.of, .step_id = run_id, .from_ms = from_ms, .to_ms = load_ms};
    struct span group = s;
    group.name = "group";
    group.step_id = NULL;
    group.from_ms = from_ms;
    if (load_ms)
        tell(t, &app, line);
    tell(t, &s, line);
    if (several)
        tell(t, &group, line);
}

static void see_verdict(struct traces *t, const char *file_id, const bson_t *line, int64_t ts_ms)
{
    const char *state = json_get_str(line, "state", "");
    bool well = !strcmp(state, "ingested") || !strcmp(state, "duplicate");
    tell(t,
         &(struct span){.name = "file",
                        .of = file_id,
                        .from_ms = time_of(line, "received_at", ts_ms),
                        .to_ms = ts_ms,
                        .failed = well ? NULL : json_get_str(line, "detail", state),
                        .error_type = json_get_str(line, "reason", state),
                        .link = json_get_i64(line, "n_files", 1) > 1 ? json_get_str(line, "run_id", NULL) : NULL},
         line);
}

static void see_line(struct traces *t, const char *text, size_t n)
{
    AUTO_BSON bson_t *line = json_parse(text, n, NULL);
    const char *event = line ? json_get_str(line, "event", "") : "", *file_id = line ? json_get_str(line, "file_id", "") : "";
    int64_t ts_ms, from_ms;
    if (!line || clk_parse(json_get_str(line, "ts", ""), &ts_ms) < 0)
        return;
    int e = tenant_event_of_line(EVENTS_OF_batch, event);
    struct span s = {.of = file_id, .step_id = json_get_str(line, "ts", ""), .to_ms = ts_ms};
    if (e == EVENT_run_ended) {
        see_run(t, line, ts_ms);
    } else if (e == EVENT_file_verdict) {
        see_verdict(t, file_id, line, ts_ms);
    } else if (e == EVENT_file_inspected && (from_ms = time_of(line, "received_at", 0))) {
        s.name = "inspect";
        s.from_ms = from_ms;
        tell(t, &s, line);
    } else if (e == EVENT_file_running && (from_ms = time_of(line, "queued_at", 0))) {
        s.name = "queue";
        s.from_ms = from_ms;
        tell(t, &s, line);
    }
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
