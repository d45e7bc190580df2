/* The board's figures for Prometheus: the columns of `mysimbdp top` that are numbers, and what is below its rows. Units are
 * Prometheus' (seconds), labels the tenant and its app. What is not known has no sample. */
#include "monitor.h"

#include "base/mem.h"
#include "base/prom.h"

#include <math.h>
#include <string.h>

/* Of which column; in ms there and in seconds here. */
static const struct {
    enum metric metric;
    bool is_ms;
    struct prom_family family;
} columns[] = {
    {METRIC_in_per_s,
     false,
     {"mysimbdp_app_in_messages_per_second", PROM_GAUGE, "Messages that come into the app's stream, over the last seconds."}},
    {METRIC_acked_per_s,
     false,
     {"mysimbdp_app_acked_messages_per_second", PROM_GAUGE, "Messages that the app settles, over the last seconds."}},
    {METRIC_ready, false, {"mysimbdp_app_ready_messages", PROM_GAUGE, "Messages that wait for the app."}},
    {METRIC_leased, false, {"mysimbdp_app_leased_messages", PROM_GAUGE, "Messages that the app's instances hold."}},
    {METRIC_oldest_age_s,
     false,
     {"mysimbdp_app_oldest_message_age_seconds", PROM_GAUGE, "Age of the oldest message that is not settled."}},
    {METRIC_drain_s,
     false,
     {"mysimbdp_app_drain_seconds", PROM_GAUGE, "Until nothing waits any more, as it goes now; absent: it does not go down."}},
    {METRIC_instances, false, {"mysimbdp_app_instances", PROM_GAUGE, "Instances that run."}},
    {METRIC_desired, false, {"mysimbdp_app_desired_instances", PROM_GAUGE, "Instances that should run."}},
    {METRIC_avg_ms,
     true,
     {"mysimbdp_app_message_average_seconds", PROM_GAUGE,
      "Time that a message takes an instance, on average over the last minute."}},
    {METRIC_p99_ms,
     true,
     {"mysimbdp_app_message_p99_seconds", PROM_GAUGE, "Time that the slowest of a hundred messages took, over the last minute."}},
    {METRIC_errors, false, {"mysimbdp_app_recent_errors", PROM_GAUGE, "Errors that instances reported in the last minute."}},
    {METRIC_reporting, false, {"mysimbdp_app_reporting_instances", PROM_GAUGE, "Instances that report."}},
    {METRIC_silent, false, {"mysimbdp_app_silent_instances", PROM_GAUGE, "Instances that run, reported, and do not any more."}},
    {METRIC_report_age_s, false, {"mysimbdp_app_report_age_seconds", PROM_GAUGE, "Since the last report of any instance."}},
    {METRIC_restarts, false, {"mysimbdp_app_restarts_total", PROM_COUNTER, "Instances that ended by themselves."}},
    {METRIC_dead, false, {"mysimbdp_app_dead_letters", PROM_GAUGE, "Dead letters that are kept."}},
};
enum { N_COLUMNS = sizeof columns / sizeof *columns };

static const struct prom_family state_family = {"mysimbdp_app_state", PROM_GAUGE,
                                                "1 for the state that the app is in: OK, WARN, STALLED or STOPPED."},
                                decided_family = {"mysimbdp_app_decided_instances", PROM_GAUGE,
                                                  "Instances that the last decision wanted."},
                                firing_family = {"mysimbdp_app_alert_firing", PROM_GAUGE,
                                                 "1 for each alert of the configuration that fires for the app."};

struct line {
    const struct app *a;
    char *labels;
    double v[N_COLUMNS];
};

static char *labels_of(const char *tenant, const char *app)
{
    struct buf labels = {0};
    prom_label(&labels, "tenant", tenant);
    prom_label(&labels, "app", app);
    return labels.p;
}

static struct line *gather(const struct monitor *m)
{
    struct line *v = xcalloc(m->apps.n + 1, sizeof *v), *l = v;
    size_t i = 0;
    for (const struct app *a; (a = map_next(&m->apps, &i)); l++) {
        struct metric_row row;
        board_row(m, a, &row);
        l->a = a;
        l->labels = labels_of(a->tenant, a->name);
        for (size_t k = 0; k < N_COLUMNS; k++)
            l->v[k] = row.number[columns[k].metric] / (columns[k].is_ms ? 1000 : 1);
    }
    return v;
}

static void add_labelled(struct prom *p, const struct line *l, const char *name, const char *value)
{
    AUTO_BUF struct buf labels = {0};
    buf_adds(&labels, l->labels);
    prom_label(&labels, name, value);
    prom_sample(p, labels.p, 1);
}

static void write_apps(const struct monitor *m, struct prom *p)
{
    AUTO_FREE struct line *v = gather(m);
    const size_t n = m->apps.n;
    prom_family(p, &state_family);
    for (size_t i = 0; i < n; i++)
        add_labelled(p, &v[i], "state", board_state_name(v[i].a->state));
    for (size_t k = 0; k < N_COLUMNS; k++) {
        prom_family(p, &columns[k].family);
        for (size_t i = 0; i < n; i++)
            prom_sample(p, v[i].labels, v[i].v[k]);
    }
    prom_family(p, &decided_family);
    for (size_t i = 0; i < n; i++)
        prom_sample(p, v[i].labels, v[i].a->reason ? (double)v[i].a->wanted : NAN);
    prom_family(p, &firing_family);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; v[i].a->n_firing && k < m->n_alerts; k++)
            if (v[i].a->alarms[k].firing)
                add_labelled(p, &v[i], "alert", m->alerts[k].name);
    for (size_t i = 0; i < n; i++)
        free(v[i].labels);
}

/* ---- runs of batch apps that report ---- */

static double done_per_s(const struct windows_figures *f)
{
    return f->messages_per_s;
}

static double bytes_per_s(const struct windows_figures *f)
{
    return f->bytes_per_s;
}

static double average_s(const struct windows_figures *f)
{
    return f->avg_s;
}

static double p99_s(const struct windows_figures *f)
{
    return f->p99_s;
}

static double errors(const struct windows_figures *f)
{
    return f->errors;
}

static double reporting(const struct windows_figures *f)
{
    return (double)f->reporting;
}

static double report_age_s(const struct windows_figures *f)
{
    return f->report_age_s;
}

static const struct {
    struct prom_family family;
    double (*of)(const struct windows_figures *f);
} of_batch[] = {
    {{"mysimbdp_batch_app_reporting_runs", PROM_GAUGE, "Runs of the batch app that report."}, reporting},
    {{"mysimbdp_batch_app_done_messages_per_second", PROM_GAUGE, "What these runs get done, over the last seconds."}, done_per_s},
    {{"mysimbdp_batch_app_done_bytes_per_second", PROM_GAUGE, "Bytes that these runs get done, over the last seconds."},
     bytes_per_s},
    {{"mysimbdp_batch_app_message_average_seconds", PROM_GAUGE, "Time that each takes, on average over the last minute."},
     average_s},
    {{"mysimbdp_batch_app_message_p99_seconds", PROM_GAUGE, "Time that the slowest of a hundred took, over the last minute."},
     p99_s},
    {{"mysimbdp_batch_app_recent_errors", PROM_GAUGE, "Errors that these runs reported in the last minute."}, errors},
    {{"mysimbdp_batch_app_report_age_seconds", PROM_GAUGE, "Since the last report of any of them."}, report_age_s},
};

struct batch_line {
    char *labels;
    struct windows_figures f;
};

static void write_batch(const struct monitor *m, struct prom *p)
{
    AUTO_FREE struct batch_line *v = xcalloc(m->batch_apps.n + 1, sizeof *v);
    size_t n = 0, i = 0;
    for (const struct batch_app *a; (a = map_next(&m->batch_apps, &i));) {
        windows_figures(&a->window, m->now_ms, &v[n].f);
        if (v[n].f.reporting)
            v[n++].labels = labels_of(a->tenant, a->name);
    }
    for (size_t k = 0; k < sizeof of_batch / sizeof *of_batch; k++) {
        prom_family(p, &of_batch[k].family);
        for (i = 0; i < n; i++)
            prom_sample(p, v[i].labels, of_batch[k].of(&v[i].f));
    }
    for (i = 0; i < n; i++)
        free(v[i].labels);
}

/* ---- reports ---- */

static void add_refused(struct prom *p, const struct mtenant *t)
{
    for (int i = 0; i < REPORT_N_REFUSALS; i++) {
        AUTO_BUF struct buf labels = {0};
        if (!t->n_refused[i])
            continue;
        prom_label(&labels, "tenant", t->id);
        prom_label(&labels, "reason", report_refusal_name((enum report_refusal)i));
        prom_sample(p, labels.p, (double)t->n_refused[i]);
    }
}

static void write_reports(const struct monitor *m, struct prom *p)
{
    static const struct prom_family taken = {"mysimbdp_reports_taken_total", PROM_COUNTER,
                                             "Reports of instances that were taken since the monitor started."},
                                    refused = {
                                        "mysimbdp_reports_refused_total", PROM_COUNTER,
                                        "Reports that were refused since the monitor started; no tenant: nobody knows whose."};
    size_t i = 0;
    prom_family(p, &taken);
    for (const struct mtenant *t; (t = map_next(&m->tenants, &i));) {
        AUTO_BUF struct buf labels = {0};
        prom_label(&labels, "tenant", t->id);
        prom_sample(p, labels.p, (double)t->n_taken);
    }
    i = 0;
    prom_family(p, &refused);
    for (const struct mtenant *t; (t = map_next(&m->tenants, &i));)
        add_refused(p, t);
    add_refused(p, &m->stranger);
}

size_t figures_write(const struct monitor *m, struct buf *out, bool open_metrics)
{
    struct prom p;
    prom_init(&p, out, open_metrics, PROM_PART_BYTES);
    write_apps(m, &p);
    write_batch(m, &p);
    write_reports(m, &p);
    export_figures(m, &p);
    return p.n_left_out;
}
