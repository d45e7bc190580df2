/* The board: a row of figures for each app, how it is, and the lines of the dashboard. */
#include "monitor.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
    DASHBOARD_MS = 5000,
    SETTLE_MS = 5000,
    QUIET_MS = 60000,   /* what is idle is shown so often */
    STALLED_MS = 15000, /* nothing was settled for so long although something waits */
    ROTATE_BYTES = 16 << 20,
    MAX_LINES = 200,
};

const char *board_state_name(enum app_state s)
{
    static const char *const names[] = {"OK", "WARN", "STALLED", "STOPPED"};
    return names[s];
}

void board_row(const struct monitor *m, const struct app *a, struct metric_row *ret)
{
    struct windows_figures f;
    bool queue = *a->stream && follow_is_fresh(m, a->queue_ms), managed = follow_is_fresh(m, a->managed_ms);
    windows_figures(&a->window, m->now_ms, &f);
    for (int i = 0; i < N_METRICS; i++) {
        ret->text[i] = NULL;
        ret->number[i] = NAN;
    }
    ret->text[METRIC_tenant_id] = a->tenant;
    ret->text[METRIC_app] = a->name;
    ret->text[METRIC_stream] = a->stream;
    ret->text[METRIC_state] = board_state_name(a->state);
    double *v = ret->number;
    if (queue) {
        v[METRIC_in_per_s] = a->in_per_s;
        v[METRIC_acked_per_s] = a->acked_per_s;
        v[METRIC_ready] = a->ready;
        v[METRIC_leased] = a->leased;
        v[METRIC_oldest_age_s] = a->oldest_age_s;
        v[METRIC_dead] = a->dead;
        double left = a->ready + a->leased, down = a->acked_per_s - a->in_per_s;
        v[METRIC_drain_s] = left <= 0 ? 0 : down > 0 ? left / down : NAN;
    } else if (!*a->stream) {
        v[METRIC_acked_per_s] = f.messages_per_s;
    }
    if (managed && *a->conf->exec) {
        v[METRIC_instances] = (double)a->instances;
        v[METRIC_desired] = (double)a->desired;
        v[METRIC_restarts] = (double)a->restarts;
    }
    v[METRIC_avg_ms] = f.avg_s * 1000;
    v[METRIC_p99_ms] = f.p99_s * 1000;
    v[METRIC_errors] = f.errors;
    v[METRIC_reporting] = (double)f.reporting;
    v[METRIC_silent] = (double)a->n_silent;
    v[METRIC_report_age_s] = f.report_age_s;
}

/* ---- how it is ---- */

struct shown {
    enum app_state state;
    char why[sizeof((struct app *)NULL)->state_why];
};

static struct shown say(enum app_state state, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static struct shown say(enum app_state state, const char *fmt, ...)
{
    struct shown v = {state, ""};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(v.why, sizeof v.why, fmt, ap);
    va_end(ap);
    return v;
}

static const char *firing(const struct monitor *m, const struct app *a)
{
    for (size_t i = 0; a->n_firing && i < m->n_alerts; i++)
        if (a->alarms[i].firing)
            return m->alerts[i].name;
    return NULL;
}

static struct shown shown_of(const struct monitor *m, const struct app *a, const struct metric_row *row)
{
    bool managed = *a->conf->exec && follow_is_fresh(m, a->managed_ms);
    double left = row->number[METRIC_ready] + row->number[METRIC_leased];
    const char *alert = firing(m, a);
    bool settling = m->now_ms - m->started_ms < SETTLE_MS; /* not everybody can have answered yet */
    if (managed && (!strcmp(a->managed_state, "stopped") || !strcmp(a->managed_state, "suspended")))
        return say(APP_STOPPED, "%s", a->why ? a->why : "stopped");
    if (managed && !strcmp(a->managed_state, "parked"))
        return say(APP_STALLED, "parked: %s", a->why ? a->why : "");
    if (left > 0 && a->settled_ms && m->now_ms - a->settled_ms > STALLED_MS)
        return say(APP_STALLED, "%.0f messages wait or are held, and none was settled for %lld s%s%s", left,
                   (long long)((m->now_ms - a->settled_ms) / 1000), managed && a->why ? ": " : "", managed && a->why ? a->why : "");
    if (alert)
        return say(APP_WARN, "alert %s", alert);
    if (a->n_silent)
        return say(APP_WARN, "%zu instances run and do not report any more", a->n_silent);
    if (managed && a->why && !settling)
        return say(APP_WARN, "%s", a->why);
    if (a->refusal)
        return say(APP_WARN, "order refused: %s", a->refusal);
    if (row->number[METRIC_errors] > 0)
        return say(APP_WARN, "%.0f errors in the last minute%s%s", row->number[METRIC_errors],
                   *a->window.error ? ", the last: " : "", a->window.error);
    if (settling)
        return say(APP_OK, "%s", "");
    if (*a->stream && !follow_is_fresh(m, a->queue_ms))
        return say(APP_WARN, "the broker does not answer");
    if (*a->conf->exec && !managed)
        return say(APP_WARN, "streammgr does not answer");
    return say(APP_OK, "%s", "");
}

bool board_is_issue(const struct app *a)
{
    return a->state == APP_WARN || a->state == APP_STALLED;
}

void board_judge(struct monitor *m, struct app *a, const struct metric_row *row)
{
    struct shown v = shown_of(m, a, row);
    if (v.state != a->state) {
        log_line(v.state == APP_OK ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "state", a->tenant, NULL, "app %s: %s -> %s%s%s", a->name,
                 board_state_name(a->state), board_state_name(v.state), *v.why ? ": " : "", v.why);
        a->shown_ms = 0;
    }
    a->state = v.state;
    memcpy(a->state_why, v.why, sizeof v.why);
}

/* ---- for `top` ---- */

void board_add(const struct monitor *m, const struct app *a, struct buf *out)
{
    struct metric_row row;
    board_row(m, a, &row);
    json_begin(out, NULL, '{');
    for (int i = 0; i < N_METRICS; i++)
        if (metric_is_text((enum metric)i))
            json_str(out, metric_name((enum metric)i), row.text[i]);
        else
            json_f64(out, metric_name((enum metric)i), row.number[i]);
    json_str(out, "why", *a->state_why ? a->state_why : NULL);
    json_str(out, "error", *a->window.error ? a->window.error : NULL);
    json_i64_or_null(out, "decision", a->reason ? a->wanted : -1);
    json_str(out, "reason", a->reason);
    json_time(out, "decided_at", a->decided_wall_ms);
    json_begin(out, "alerts", '[');
    for (size_t i = 0; i < m->n_alerts; i++)
        if (a->alarms[i].firing)
            json_str(out, NULL, m->alerts[i].name);
    json_end(out, ']');
    json_end(out, '}');
}

void board_add_batch(const struct monitor *m, const struct batch_app *a, struct buf *out)
{
    struct windows_figures f;
    windows_figures(&a->window, m->now_ms, &f);
    if (!f.reporting)
        return;
    json_begin(out, NULL, '{');
    json_str(out, "tenant_id", a->tenant);
    json_str(out, "app", a->name);
    json_i64(out, "reporting", (int64_t)f.reporting);
    json_f64(out, "acked_per_s", f.messages_per_s);
    json_f64(out, "bytes_per_s", f.bytes_per_s);
    json_f64(out, "avg_ms", f.avg_s * 1000);
    json_f64(out, "p99_ms", f.p99_s * 1000);
    json_f64(out, "errors", f.errors);
    json_f64(out, "report_age_s", f.report_age_s);
    json_str(out, "error", *a->window.error ? a->window.error : NULL);
    json_end(out, '}');
}

/* ---- for `tail -f logs/monitor.log` ---- */

static void add_figure(struct buf *b, const char *name, double v, int digits, const char *unit)
{
    if (isnan(v))
        buf_addf(b, "  %s -", name);
    else
        buf_addf(b, "  %s %.*f%s", name, digits, v, unit);
}

/* Tenants' text is in it: it must stay one line, and leave the terminal as it is. */
static void end_line(struct buf *b, size_t from)
{
    buf_make_plain(b, from);
    buf_adds(b, "\n");
}

static void add_line(struct monitor *m, const struct app *a, struct buf *b)
{
    struct metric_row row;
    char stamp[CLK_RFC3339_SIZE];
    size_t from = b->n;
    const double *v = row.number;
    board_row(m, a, &row);
    AUTO_FREE char *name = xasprintf("%s/%s", a->tenant, a->name);
    buf_addf(b, "%.19sZ %-7s %-24s", clk_rfc3339(m->wall_ms, stamp), board_state_name(a->state), name);
    add_figure(b, "in/s", v[METRIC_in_per_s], 1, "");
    add_figure(b, "acked/s", v[METRIC_acked_per_s], 1, "");
    add_figure(b, "ready", v[METRIC_ready], 0, "");
    add_figure(b, "leased", v[METRIC_leased], 0, "");
    add_figure(b, "oldest", v[METRIC_oldest_age_s], 0, "s");
    add_figure(b, "drain", v[METRIC_drain_s], 0, "s");
    if (isnan(v[METRIC_instances]))
        buf_adds(b, "  inst -");
    else
        buf_addf(b, "  inst %.0f/%.0f", v[METRIC_instances], v[METRIC_desired]);
    add_figure(b, "avg", v[METRIC_avg_ms], 2, "ms");
    add_figure(b, "p99", v[METRIC_p99_ms], 2, "ms");
    add_figure(b, "errors", v[METRIC_errors], 0, "");
    if (*a->state_why)
        buf_addf(b, "  [%s]", a->state_why);
    if (a->reason)
        buf_addf(b, "  -> %lld: %s", (long long)a->wanted, a->reason);
    end_line(b, from);
}

static bool is_quiet(const struct app *a)
{
    return !board_is_issue(a) && !(a->in_per_s > 0 || a->acked_per_s > 0 || a->ready + a->leased > 0) && !a->window.instances.n;
}

static void add_batch_app(struct monitor *m, const struct batch_app *a, struct buf *b)
{
    struct windows_figures f;
    char stamp[CLK_RFC3339_SIZE];
    size_t from = b->n;
    windows_figures(&a->window, m->now_ms, &f);
    if (!f.reporting)
        return;
    AUTO_FREE char *name = xasprintf("%s/%s", a->tenant, a->name);
    buf_addf(b, "%.19sZ BATCH   %-24s  runs that report %zu", clk_rfc3339(m->wall_ms, stamp), name, f.reporting);
    add_figure(b, "done/s", f.messages_per_s, 1, "");
    add_figure(b, "avg", f.avg_s * 1000, 2, "ms");
    add_figure(b, "p99", f.p99_s * 1000, 2, "ms");
    add_figure(b, "errors", f.errors, 0, "");
    end_line(b, from);
}

static void add_batch(struct monitor *m, struct buf *b)
{
    bson_iter_t it;
    bson_t t;
    char stamp[CLK_RFC3339_SIZE];
    if (!m->batch || !json_get_iter(m->batch, "tenants", &it))
        return;
    while (json_next_doc(&it, &t)) {
        if (!json_get_i64(&t, "unfinished", 0))
            continue;
        const char *why = json_get_str(&t, "waits_for", NULL);
        size_t from = b->n;
        buf_addf(b, "%.19sZ BATCH   %-24s  queued %lld  held %lld  running %lld  unfinished %lld%s%s",
                 clk_rfc3339(m->wall_ms, stamp), json_get_str(&t, "tenant_id", ""), (long long)json_get_i64(&t, "queued", 0),
                 (long long)json_get_i64(&t, "held", 0), (long long)json_get_i64(&t, "running", 0),
                 (long long)json_get_i64(&t, "unfinished", 0), why ? "  waits for: " : "", why ? why : "");
        end_line(b, from);
    }
}

/* Where `up` lets us write into logs/monitor.log, it is ours to cut; `tail -F` follows. */
static void rotate(struct monitor *m)
{
    struct stat out, file;
    if (fstat(STDOUT_FILENO, &out) < 0 || out.st_size <= ROTATE_BYTES || fstatat(m->home.dirfd, "logs/monitor.log", &file, 0) < 0 ||
        out.st_ino != file.st_ino || out.st_dev != file.st_dev)
        return;
    AUTO_FD int fd = keeper_rotate(m->keeper);
    if (fd < 0)
        return;
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
}

void board_log(struct monitor *m)
{
    AUTO_BUF struct buf b = {0};
    int lines = 0;
    if (m->now_ms - m->dashboard_ms < DASHBOARD_MS)
        return;
    m->dashboard_ms = m->now_ms;
    for (int pass = 0; pass < 2; pass++) { /* what needs somebody comes first */
        size_t i = 0;
        for (struct app *a; (a = map_next(&m->apps, &i));) {
            if (board_is_issue(a) != (pass == 0) || (is_quiet(a) && a->shown_ms && m->now_ms - a->shown_ms < QUIET_MS) ||
                lines == MAX_LINES)
                continue;
            lines++;
            a->shown_ms = m->now_ms;
            add_line(m, a, &b);
        }
    }
    if (lines == MAX_LINES)
        buf_addf(&b, "... and more: `mysimbdp top` shows all %zu\n", m->apps.n);
    add_batch(m, &b);
    size_t i = 0;
    for (const struct batch_app *a; (a = map_next(&m->batch_apps, &i));)
        add_batch_app(m, a, &b);
    if (!b.n)
        return;
    rotate(m);
    if (fd_write_all(STDOUT_FILENO, b.p, b.n) < 0)
        log_debug("dashboard", NULL, NULL, "nobody reads it");
}
