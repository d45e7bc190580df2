/* One app in `mysimbdp top`: its limits, the last minutes, its instances and what they use, the last decisions and why. */
#include "top.h"
#include "term/plot.h"
#include "term/table.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/cgroup_use.h"
#include "run/kinds.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    DECISIONS_READ = 256 << 10,
    DECISIONS_SHOWN = 20,
    INDENT = 4,
    WIDE = 64,
    RATE_MS = 1000,
    STAMP = 8,
    STAMP_AT = 11,
    NUMBER = 6
};

/* What an instance had done when it was looked at, and how fast it was between that and the look before. NaN: not known. */
struct use {
    double cpu_s, messages, busy_s;
    int64_t cpu_ms, report_ms; /* when */
    double cpu, per_s, busy;   /* cpu, busy: of one second */
    int64_t memory_bytes;      /* -1: not known */
    bool seen;
};

struct top_detail *top_detail_new(const struct home *h, const char *tenant, const char *app)
{
    struct top_detail *d = xcalloc(1, sizeof *d);
    *d = (struct top_detail){.h = h, .tenant = xstrdup(tenant), .app = xstrdup(app), .decisions_size = -1};
    if (conf_load(h->path, &d->conf, NULL) < 0)
        d->conf = NULL;
    return d;
}

void top_detail_free(struct top_detail *d)
{
    size_t i = 0;
    if (!d)
        return;
    for (struct use *u; (u = map_next(&d->uses, &i));)
        free(u);
    map_fini(&d->uses);
    if (d->instances)
        bson_destroy(d->instances);
    if (d->reports)
        bson_destroy(d->reports);
    conf_free(d->conf);
    buf_fini(&d->decisions);
    free(d->instances_why);
    free(d->cgroups);
    free(d->tenant);
    free(d->app);
    free(d);
}

void top_detail_requests(const struct top_detail *d, struct buf *of_streammgr, struct buf *of_monitor)
{
    struct buf *const to[] = {of_streammgr, of_monitor};
    static const char *const ops[] = {"instances", "app"};
    for (int i = 0; i < 2; i++) {
        json_begin(to[i], NULL, '{');
        json_str(to[i], "op", ops[i]);
        json_str(to[i], "tenant_id", d->tenant);
        json_str(to[i], "app", d->app);
        json_end(to[i], '}');
    }
}

/* ---- what instances use ---- */

static void look_at_cgroup(struct top_detail *d, const char *run_id, struct use *u)
{
    struct cgroup_use now;
    const int64_t ms = clk_now_ms();
    if (!d->cgroups) {
        d->cgroups = xcalloc(1, sizeof *d->cgroups);
        cgroup_find(d->cgroups, d->h->tag);
    }
    cgroup_use_of(d->cgroups, run_id, &now);
    u->memory_bytes = now.memory_bytes;
    if (u->cpu_ms && ms - u->cpu_ms < RATE_MS)
        return;
    u->cpu = u->cpu_ms && now.cpu_s >= u->cpu_s ? (now.cpu_s - u->cpu_s) * 1000 / (double)(ms - u->cpu_ms) : NAN;
    u->cpu_s = now.cpu_s;
    u->cpu_ms = ms;
}

static struct use *use_of(struct top_detail *d, const char *run_id)
{
    struct use *u = map_get(&d->uses, run_id);
    if (!u) {
        u = xcalloc(1, sizeof *u);
        *u = (struct use){.cpu_s = NAN, .messages = NAN, .busy_s = NAN, .cpu = NAN, .per_s = NAN, .busy = NAN, .memory_bytes = -1};
        map_put(&d->uses, run_id, u);
    }
    return u;
}

void top_detail_take_instances(struct top_detail *d, bson_t *doc, const char *why)
{
    bson_iter_t it;
    bson_t one;
    size_t i = 0;
    xstr_set(&d->instances_why, why);
    if (!doc)
        return;
    if (d->instances)
        bson_destroy(d->instances);
    d->instances = doc;
    for (struct use *u; (u = map_next(&d->uses, &i));)
        u->seen = false;
    if (json_get_iter(doc, "instances", &it))
        while (json_next_doc(&it, &one)) {
            const char *run_id = json_get_str(&one, "run_id", "");
            if (!home_valid_id(run_id))
                continue;
            struct use *u = use_of(d, run_id);
            look_at_cgroup(d, run_id, u);
            u->seen = true;
        }
    for (i = 0; i < d->uses.cap; i++) { /* those that are gone */
        struct use *u = d->uses.slots[i].value;
        if (u && !u->seen)
            free(map_remove(&d->uses, d->uses.slots[i].key));
    }
}

static void take_report(struct use *u, const bson_t *r)
{
    const double messages = json_get_f64(r, "messages", NAN), busy_s = json_get_f64(r, "busy_s", NAN);
    const int64_t at_ms = clk_now_ms() - (int64_t)(json_get_f64(r, "report_age_s", 0) * 1000), ms = at_ms - u->report_ms;
    if (u->report_ms && ms < RATE_MS / 2) /* the same report, or one that says too little */
        return;
    u->per_s = u->report_ms && messages >= u->messages ? (messages - u->messages) * 1000 / (double)ms : NAN;
    u->busy = u->report_ms && busy_s >= u->busy_s ? (busy_s - u->busy_s) * 1000 / (double)ms : NAN;
    u->messages = messages;
    u->busy_s = busy_s;
    u->report_ms = at_ms;
}

void top_detail_take_reports(struct top_detail *d, bson_t *doc)
{
    bson_iter_t it;
    bson_t one;
    if (d->reports)
        bson_destroy(d->reports);
    d->reports = doc;
    if (json_get_iter(doc, "instances", &it))
        while (json_next_doc(&it, &one)) {
            struct use *u = map_get(&d->uses, json_get_str(&one, "run_id", ""));
            if (u)
                take_report(u, &one);
        }
}

/* ---- lines ---- */

/* The text in lines that begin with `kind`. */
static void add_text(struct buf *out, char kind, const char *text, size_t indent, size_t room)
{
    AUTO_BUF struct buf lines = {0};
    AUTO_FREE char *plain = table_plain(text);
    table_fold(&lines, plain, 0, indent, room);
    char *at = lines.p;
    for (char *l; (l = strsep(&at, "\n"));)
        buf_addf(out, "%c%.*s\n", kind, (int)table_bytes_within(l, room), l);
}

static void add_bytes(struct buf *b, int64_t bytes)
{
    if (bytes < 10 << 20)
        buf_addf(b, "%lld KiB", (long long)(bytes >> 10));
    else
        buf_addf(b, "%lld MiB", (long long)(bytes >> 20));
}

static void add_profile(struct buf *b, const struct conf_profile *p)
{
    buf_addf(b, "; profile %s: %.3g cpus, ", p->name, p->requests.cpus);
    add_bytes(b, p->requests.memory_bytes);
    if (p->cgroup.cpu_pct >= 0)
        buf_addf(b, ", at most %lld %% cpu", (long long)p->cgroup.cpu_pct);
    if (p->cgroup.memory_bytes >= 0) {
        buf_adds(b, ", memory ");
        add_bytes(b, p->cgroup.memory_bytes);
    }
    if (p->cgroup.pids >= 0)
        buf_addf(b, ", %lld processes", (long long)p->cgroup.pids);
    if (p->wall_s > 0)
        buf_addf(b, ", %lld s", (long long)p->wall_s);
}

static void add_limits(struct buf *out, const struct top_detail *d, size_t room)
{
    const struct conf_tenant *t = d->conf ? conf_tenant(d->conf, d->tenant) : NULL;
    const struct conf_stream_app *a = t ? conf_stream_app(t, d->app) : NULL;
    const struct conf_profile *p = a ? conf_profile(d->conf, a->profile) : NULL;
    AUTO_BUF struct buf b = {0};
    if (!a) {
        add_text(out, TOP_PLAIN,
                 d->conf ? "limits: it is not configured" : "limits: the configuration has errors: `mysimbdp check`", INDENT, room);
        return;
    }
    buf_addf(&b, "limits: %lld to %lld instances%s; stream %s, %s", (long long)a->min_instances, (long long)a->max_instances,
             a->on_demand ? " on demand" : "", *a->stream ? a->stream : "of others", conf_delivery_name(a->delivery));
    if (p)
        add_profile(&b, p);
    add_text(out, TOP_PLAIN, b.p, INDENT, room);
}

/* ---- curves ---- */

static const char *const curve_names[] = {"ARRIVALS /s", "SETTLED /s", "BACKLOG", "INSTANCES"};

static void add_figure(struct buf *b, double v)
{
    AUTO_BUF struct buf number = {0};
    top_add_number(&number, v, NUMBER, v < 100 ? "%.3g" : "%.0f");
    buf_addf(b, " %s", number.p + strspn(number.p, " "));
}

static void add_heading(struct buf *out, const char *name, const double *v, size_t width)
{
    AUTO_BUF struct buf b = {0};
    double now = NAN;
    for (int i = TREND_SLOTS - 1; i >= TREND_SLOTS - 3 && isnan(now); i--)
        now = v[i];
    buf_addf(&b, "%s  now", name);
    add_figure(&b, now);
    buf_adds(&b, "  most");
    add_figure(&b, plot_top(v, TREND_SLOTS));
    buf_addf(out, "%-*.*s", (int)width, (int)width, b.p);
}

/* `n` curves side by side. */
static void add_curves(struct buf *out, const struct trend *curves, int first, int n, size_t width, size_t height,
                       const struct top_layout *l)
{
    double all[2][TREND_SLOTS], v[2][TREND_SLOTS * 4];
    buf_addf(out, "%c", TOP_HEADING);
    for (int i = 0; i < n; i++) {
        trend_values(&curves[first + i], l->now_ms, all[i]);
        plot_resample(all[i], TREND_SLOTS, v[i], width);
        buf_adds(out, i ? "  " : "");
        add_heading(out, curve_names[first + i], all[i], width);
    }
    for (size_t row = height; row-- > 0;) {
        buf_addf(out, "\n%c", TOP_PLAIN);
        for (int i = 0; i < n; i++) {
            buf_adds(out, i ? "  " : "");
            plot_row(out, v[i], width, plot_top(v[i], width), height, row, l->blocks);
        }
    }
    buf_adds(out, "\n");
}

static void add_all_curves(struct buf *out, const struct top_detail *d, const struct top_board *v, const struct top_layout *l,
                           size_t screen)
{
    const struct trend *curves = top_curves(v, d->tenant, d->app);
    const int beside = l->room >= WIDE ? 2 : 1;
    const size_t widest = (l->room - (beside > 1 ? 2 : 0)) / (size_t)beside;
    const size_t width = widest < (size_t)TREND_SLOTS * 4 ? widest : (size_t)TREND_SLOTS * 4;
    const size_t height = screen >= 50 ? 6 : screen >= 20 ? 3 : 2;
    for (int i = 0; curves && i < METRIC_N_TRENDS; i += beside)
        add_curves(out, curves, i, beside, width, height, l);
}

/* ---- instances ---- */

static void add_age(struct buf *b, const char *started_at)
{
    int64_t ms, s;
    if (clk_parse(started_at, &ms) < 0) {
        buf_addf(b, " %5s", "-");
        return;
    }
    s = (clk_wall_ms() - ms) / 1000;
    s = s < 0 ? 0 : s;
    if (s < 600)
        buf_addf(b, " %4llds", (long long)s);
    else if (s < 100 * 60)
        buf_addf(b, " %4lldm", (long long)(s / 60));
    else if (s < 100 * 3600)
        buf_addf(b, " %4lldh", (long long)(s / 3600));
    else
        buf_addf(b, " %4lldd", (long long)(s / 86400));
}

static bool report_of(const struct top_detail *d, const char *run_id, bson_t *ret)
{
    bson_iter_t it;
    if (!d->reports || !json_get_iter(d->reports, "instances", &it))
        return false;
    while (json_next_doc(&it, ret))
        if (!strcmp(json_get_str(ret, "run_id", ""), run_id))
            return true;
    return false;
}

static void add_pct(struct buf *b, double part)
{
    buf_adds(b, " ");
    top_add_number(b, part * 100, 4, "%.0f");
    buf_adds(b, isnan(part) ? " " : "%");
}

static void add_instance(struct buf *out, struct top_detail *d, const bson_t *i, size_t room)
{
    static const struct use unknown = {.per_s = NAN, .busy = NAN, .cpu = NAN, .memory_bytes = -1};
    const char *run_id = json_get_str(i, "run_id", "-"), *why = json_get_str(i, "reason", "");
    const struct use *u = map_get(&d->uses, run_id);
    const double holds = json_get_f64(i, "in_flight", NAN);
    AUTO_BUF struct buf b = {0};
    bson_t report;
    u = u ? u : &unknown;
    const bool reports = report_of(d, run_id, &report);
    buf_addf(&b, "%-26.26s %-8.8s", run_id, json_get_str(i, "state", "?"));
    add_age(&b, json_get_str(i, "started_at", ""));
    buf_adds(&b, " ");
    top_add_number(&b, holds, 5, "%.0f");
    buf_adds(&b, " ");
    top_add_number(&b, u->per_s, 6, "%.1f");
    add_pct(&b, u->busy);
    add_pct(&b, u->cpu);
    buf_adds(&b, " ");
    top_add_number(&b, u->memory_bytes < 0 ? NAN : (double)u->memory_bytes, 6, "%.0f");
    buf_adds(&b, " ");
    top_add_number(&b, reports ? json_get_f64(&report, "errors", NAN) : NAN, 4, "%.0f");
    buf_addf(out, "%c%.*s\n", TOP_PLAIN, (int)table_bytes_within(b.p, room), b.p);
    if (*why)
        add_text(out, TOP_PLAIN, why, INDENT, room);
    if (reports && *json_get_str(&report, "error", "")) {
        AUTO_FREE char *text = xasprintf("    the last error: %s", json_get_str(&report, "error", ""));
        add_text(out, TOP_PLAIN, text, INDENT, room);
    }
}

static void add_instances(struct buf *out, struct top_detail *d, size_t room)
{
    static const char header[] = "INSTANCE                   STATE      AGE HOLDS DONE/S  BUSY   CPU MEMORY  ERR";
    bson_iter_t it;
    bson_t one;
    bool any = false;
    buf_addf(out, "%c%.*s\n", TOP_HEADING, (int)room, header);
    if (d->instances_why)
        add_text(out, TOP_STATE, d->instances_why, INDENT, room);
    if (d->instances && json_get_iter(d->instances, "instances", &it))
        for (; json_next_doc(&it, &one); any = true)
            add_instance(out, d, &one, room);
    if (!any && !d->instances_why)
        add_text(out, TOP_PLAIN, d->instances ? "none" : "not known yet", INDENT, room);
}

/* ---- decisions ---- */

/* Keeps what is the app's of the record's end, when that has changed. */
static void read_decisions(struct top_detail *d)
{
    struct stat st;
    AUTO_FD int fd = openat(d->h->dirfd, "logs/decisions.jsonl", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == d->decisions_size)
        return;
    AUTO_BUF struct buf text = {0};
    const off_t from = st.st_size > DECISIONS_READ ? st.st_size - DECISIONS_READ : 0;
    buf_reserve(&text, DECISIONS_READ + 1);
    const ssize_t n = pread(fd, text.p, DECISIONS_READ, from);
    if (n < 0)
        return;
    text.p[n] = 0;
    d->decisions_size = st.st_size;
    buf_reset(&d->decisions);
    AUTO_FREE char *mine = xasprintf("\"app\":\"%s\"", d->app);
    char *at = text.p;
    for (char *line; (line = strsep(&at, "\n"));)
        if (strstr(line, mine))
            buf_addf(&d->decisions, "%s\n", line);
}

static void add_decision(struct buf *out, const bson_t *doc, size_t room)
{
    AUTO_BUF struct buf b = {0};
    const char *ts = json_get_str(doc, "ts", "");
    buf_addf(&b, "%.*s  %lld -> %lld  %s", STAMP, strlen(ts) > STAMP_AT ? ts + STAMP_AT : "",
             (long long)json_get_i64(doc, "before", 0), (long long)json_get_i64(doc, "desired", 0),
             json_get_str(doc, "reason", ""));
    add_text(out, TOP_PLAIN, b.p, STAMP + 2, room);
}

static void add_decisions(struct buf *out, struct top_detail *d, size_t room)
{
    int n = 0;
    read_decisions(d);
    buf_addf(out, "%c%.*s\n", TOP_HEADING, (int)room, "DECISIONS, the newest first (UTC)");
    size_t end = d->decisions.n;
    while (end > 0 && n < DECISIONS_SHOWN) {
        const char *lf = end > 1 ? memrchr(d->decisions.p, '\n', end - 1) : NULL;
        const size_t from = lf ? (size_t)(lf - d->decisions.p) + 1 : 0;
        AUTO_BSON bson_t *doc = json_parse(d->decisions.p + from, end - 1 - from, NULL);
        end = from;
        if (!doc || strcmp(json_get_str(doc, "tenant_id", ""), d->tenant) != 0 || strcmp(json_get_str(doc, "app", ""), d->app) != 0)
            continue;
        add_decision(out, doc, room);
        n++;
    }
    if (!n)
        add_text(out, TOP_PLAIN, "none lately", INDENT, room);
}

/* ---- */

static void add_state(struct buf *out, const struct top_detail *d, const struct top_board *v, size_t room)
{
    AUTO_BUF struct buf b = {0};
    bson_iter_t it;
    bson_t one;
    bool found = false;
    if (v->doc && json_get_iter(v->doc, "rows", &it)) /* whatever is filtered */
        while (!found && json_next_doc(&it, &one))
            found = !strcmp(json_get_str(&one, "tenant_id", ""), d->tenant) && !strcmp(json_get_str(&one, "app", ""), d->app);
    if (found)
        buf_addf(&b, "%s%s%s", json_get_str(&one, "state", ""), json_get_str(&one, "why", NULL) ? ": " : "",
                 json_get_str(&one, "why", ""));
    add_text(out, TOP_STATE, found ? b.p : "? it is not on the board", INDENT, room);
}

void top_detail_add(struct buf *out, struct top_detail *d, const struct top_board *v, const struct top_layout *l, size_t height)
{
    add_state(out, d, v, l->room);
    add_limits(out, d, l->room);
    add_all_curves(out, d, v, l, height);
    add_instances(out, d, l->room);
    add_decisions(out, d, l->room);
}
