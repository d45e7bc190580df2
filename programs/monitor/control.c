/* The monitor's control socket. Requests (lib/loop/ctl.h):
 *   status                -> what it listens on, and how many reports were taken and refused
 *   board {tenant_id?}       -> {at,rows:[...],batch:[...],batch_apps:[...],refused:[...]}: what `mysimbdp top` shows
 *   history {tenant_id?}  -> {slot,slot_ms,apps:[{tenant_id,app,in_per_s,acked_per_s,backlog,instances}],files:[likewise, no app]}:
 *                         figures of the last minutes, each an array whose last value is that of `slot` (base/trend.h)
 *   app {tenant_id,app}   -> {instances:[{run_id,messages,busy_s,errors,report_age_s,error}]}: what instances reported last;
 *                         counters since each one's begin
 *   past {tenant_id,app,since_ms?} -> {tenant_id,app, and what past_json has}: the last hours of a stream app
 *   figures {format?}     -> {bytes,left_out}, and so many bytes of Prometheus' text behind the line: the board's figures
 *   reload                reads the configuration
 *   tenants               reads the tenants' uids
 *
 * Guest: the gateway (monitor.gateway.sock) has `status`, `board` and `past`; a tenant or app that is not configured is not
 * found (code not_found). */
#include "monitor.h"

#include "base/mem.h"
#include "host/uid_block.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

static void add_refused(const struct mtenant *t, struct buf *out)
{
    json_begin(out, NULL, '{');
    json_str(out, "tenant_id", t->id);
    json_i64(out, "taken", (int64_t)t->n_taken);
    for (int i = 0; i < REPORT_N_REFUSALS; i++)
        json_i64(out, report_refusal_name((enum report_refusal)i), (int64_t)t->n_refused[i]);
    json_str(out, "last", t->last_refusal);
    json_end(out, '}');
}

static void status(struct monitor *m, struct ctl_conn *c)
{
    AUTO_BUF struct buf out = {0};
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_i64(&out, "pid", getpid());
    json_time(&out, "started_at", m->started_wall_ms);
    json_str(&out, "ipc", m->net.ipc_endpoint);
    json_str(&out, "tcp", m->net.tcp_endpoint);
    json_str(&out, "server_key", m->net.tcp_endpoint ? m->net.server_public : NULL);
    json_i64(&out, "reports", (int64_t)m->n_reports);
    json_i64(&out, "refused", (int64_t)m->n_refused);
    size_t i = 0, issues = 0;
    for (const struct app *a; (a = map_next(&m->apps, &i));)
        issues += board_is_issue(a);
    json_i64(&out, "apps", (int64_t)m->apps.n);
    json_i64(&out, "issues", (int64_t)issues);
    export_status(m, &out);
    json_end(&out, '}');
    ctl_send(c, &out);
}

static void board(struct monitor *m, struct ctl_conn *c, const char *tenant)
{
    AUTO_BUF struct buf out = {0};
    size_t i = 0;
    bson_iter_t it;
    bson_t one;
    monitor_look_at_clocks(m);
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_time(&out, "at", m->wall_ms);
    if (!tenant) /* they are the provider's */
        alerts_add(m, &out);
    json_begin(&out, "rows", '[');
    for (const struct app *a; (a = map_next(&m->apps, &i));)
        if (!tenant || !strcmp(tenant, a->tenant))
            board_add(m, a, &out);
    json_end(&out, ']');
    json_begin(&out, "batch", '[');
    if (m->batch && json_get_iter(m->batch, "tenants", &it))
        while (json_next_doc(&it, &one))
            if (!tenant || !strcmp(tenant, json_get_str(&one, "tenant_id", ""))) {
                AUTO_BUF struct buf text = {0};
                json_from_bson(&one, &text);
                json_raw(&out, NULL, text.p);
            }
    json_end(&out, ']');
    json_begin(&out, "batch_apps", '[');
    i = 0;
    for (const struct batch_app *a; (a = map_next(&m->batch_apps, &i));)
        if (!tenant || !strcmp(tenant, a->tenant))
            board_add_batch(m, a, &out);
    json_end(&out, ']');
    json_begin(&out, "refused", '[');
    i = 0;
    for (const struct mtenant *t; (t = map_next(&m->tenants, &i));)
        if (t->last_refusal && (!tenant || !strcmp(tenant, t->id)))
            add_refused(t, &out);
    if (m->stranger.last_refusal && !tenant)
        add_refused(&m->stranger, &out);
    json_end(&out, ']');
    json_end(&out, '}');
    ctl_send(c, &out);
}

static void history(struct monitor *m, struct ctl_conn *c, const char *tenant)
{
    AUTO_BUF struct buf out = {0};
    monitor_look_at_clocks(m);
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    history_add(m, tenant, &out);
    json_end(&out, '}');
    ctl_send(c, &out);
}

static int app(struct monitor *m, struct ctl_conn *c, const char *tenant, const char *name, struct err *e)
{
    const struct app *a = monitor_app(m, tenant ? tenant : "", name);
    AUTO_BUF struct buf out = {0};
    size_t i = 0;
    if (!a)
        return err_refuse(e, "not_found", 0, "there is no stream app %s/%s", tenant ? tenant : "", name);
    monitor_look_at_clocks(m);
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_begin(&out, "instances", '[');
    for (const struct reporting *r; (r = map_next(&a->window.instances, &i));) {
        json_begin(&out, NULL, '{');
        json_str(&out, "run_id", r->id);
        json_f64(&out, "messages", r->counts ? r->messages : NAN);
        json_f64(&out, "busy_s", r->counts ? r->busy_s : NAN);
        json_f64(&out, "errors", r->counts ? r->errors : NAN);
        json_f64(&out, "report_age_s", (double)(m->now_ms - r->seen_ms) / 1000);
        json_str(&out, "error", r->error);
        json_end(&out, '}');
    }
    json_end(&out, ']');
    json_end(&out, '}');
    ctl_send(c, &out);
    return 1;
}

static void figures(struct monitor *m, struct ctl_conn *c, const char *format)
{
    struct buf text = {0};
    monitor_look_at_clocks(m);
    size_t left_out = figures_write(m, &text, !strcmp(format, "openmetrics"));
    ctl_send_text(c, &text, left_out);
}

static int past(struct monitor *m, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant_id", ""), *app = json_get_str(rq, "app", "");
    AUTO_BUF struct buf out = {0};
    if (!monitor_app(m, tenant, app))
        return err_refuse(e, "not_found", 0, "tenant %s has no stream app \"%s\"", tenant, app);
    monitor_look_at_clocks(m);
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_str(&out, "tenant_id", tenant);
    json_str(&out, "app", app);
    past_json(m->past, tenant, app, json_get_i64(rq, "since_ms", 0), m->wall_ms, &out);
    json_end(&out, '}');
    ctl_send(c, &out);
    return 1;
}

static int check_tenant(struct monitor *m, const struct ctl_conn *c, const char *tenant, struct err *e)
{
    return !tenant || !ctl_is_guest(c, "gateway") || conf_tenant(m->conf, tenant)
               ? 0
               : err_refuse(e, "not_found", 0, "there is no tenant \"%s\"", tenant);
}

static int serve(void *arg, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    struct monitor *m = arg;
    const char *op = json_get_str(rq, "op", ""), *tenant = json_get_str(rq, "tenant_id", NULL);
    int r = check_tenant(m, c, tenant, e);
    if (r < 0)
        return r;
    if (!strcmp(op, "status"))
        return status(m, c), 1;
    if (!strcmp(op, "board"))
        return board(m, c, tenant), 1;
    if (!strcmp(op, "history"))
        return history(m, c, tenant), 1;
    if (!strcmp(op, "app"))
        return app(m, c, tenant, json_get_str(rq, "app", ""), e);
    if (!strcmp(op, "past"))
        return past(m, c, rq, e);
    if (!strcmp(op, "figures"))
        return figures(m, c, json_get_str(rq, "format", "")), 1;
    if (!strcmp(op, "reload"))
        return monitor_reload(m, e);
    if (!strcmp(op, "tenants"))
        return inbox_read_tenants(m), 0;
    return err_set(e, ERR_USAGE, "the monitor does not know \"%s\"", op);
}

int control_start(struct monitor *m, struct err *e)
{
    static const char *const of_gateway[] = {"status", "board", "past", NULL};
    const struct ctl_guest gateway = {"gateway", uid_of_program(&m->home, m->conf->platform.uid_base, UID_GATEWAY), CTL_BY_SOCKET,
                                      of_gateway};
    AUTO_FREE char *path = home_socket(&m->home, "monitor.sock");
    return ctl_new(m->base, path, &(struct ctl_ops){.serve = serve, .arg = m, .guests = &gateway, .n_guests = 1}, &m->ctl, e);
}

void control_stop(struct monitor *m)
{
    ctl_free(m->ctl);
}
