/* streammgr's control socket. Requests (common/ctl.h):
 *   status
 *   apps {tenant?}                                  -> {"epoch","apps":[...]}
 *   start, stop {tenant,app}                        by a person: stopped apps stay so until they are started
 *   stop {run_id}                                   one instance; another comes in its place if it is wanted
 *   scale {tenant,app,count,epoch?,expires_ms?}     an absolute count; with an epoch that is not ours (which `apps` tells) it is
 * stale reload; tenants                                 reads configuration; who is suspended, and where databases are forget
 * {tenant}                                 tenant remove --purge: its instances end, and are forgotten; answered then drain
 * answered when no instance is left */
#include "book.h"
#include "streammgr.h"

#include "common/clk.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"

#include <string.h>
#include <unistd.h>

/* For the end of all instances, or of a tenant's. */
static struct waiter {
    struct ctl_conn *conn;
    char *tenant; /* NULL: all */
} waiters[16];
static size_t n_waiters;

static void add_app(struct streammgr *m, struct buf *out, const struct conf_tenant *t, const struct conf_stream_app *c)
{
    struct app *a = app_get(m, t->id, c->app, true);
    const char *why;
    int64_t target = app_target(a, &why), n[4] = {0};
    if (!why && (int64_t)a->n < target && !app_has_capacity(a))
        why = "stream_pct of the platform's capacity is taken";
    for (const struct instance *i = a->instances; i; i = i->next)
        n[i->state]++;
    json_begin(out, NULL, '{');
    json_str(out, "tenant_id", t->id);
    json_str(out, "app", c->app);
    json_str(out, "stream", c->stream);
    json_str(out, "state",
             a->stopped               ? "stopped"
             : a->parked              ? "parked"
             : why && !a->n           ? "waiting"
             : (int64_t)a->n < target ? "starting"
             : a->n                   ? "running"
                                      : "idle");
    json_i64(out, "instances", n[INSTANCE_starting] + n[INSTANCE_running]);
    json_i64(out, "running", n[INSTANCE_running]);
    json_i64(out, "draining", n[INSTANCE_draining]);
    json_i64(out, "desired", target);
    json_i64(out, "min_instances", c->min_instances);
    json_i64(out, "max_instances", c->max_instances);
    json_str(out, "reason", a->parked ? a->parked : why);
    json_i64(out, "restarts", a->attempts > 0 ? a->attempts - 1 : 0);
    json_begin(out, "run_ids", '[');
    for (const struct instance *i = a->instances; i; i = i->next)
        json_str(out, NULL, i->run_id);
    json_end(out, ']');
    json_end(out, '}');
}

static void apps(struct streammgr *m, struct ctl_conn *c, const char *tenant)
{
    AUTO_BUF struct buf out = {0};
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_i64(&out, "epoch", (int64_t)m->epoch);
    json_begin(&out, "apps", '[');
    for (size_t k = 0; k < m->conf->n_tenants; k++) {
        const struct conf_tenant *t = &m->conf->tenants[k];
        const struct conf_stream_app *v = t->stream_apps.v;
        for (size_t i = 0; i < t->stream_apps.n; i++)
            if (*v[i].exec && (!tenant || !strcmp(tenant, t->id)))
                add_app(m, &out, t, &v[i]);
    }
    json_end(&out, ']');
    json_end(&out, '}');
    ctl_send(c, &out);
}

static void status(struct streammgr *m, struct ctl_conn *c)
{
    AUTO_BUF struct buf out = {0};
    size_t at = 0;
    int64_t parked = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        parked += a->parked != NULL;
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_i64(&out, "pid", getpid());
    json_time(&out, "started_at", m->started_wall_ms);
    json_i64(&out, "instances", (int64_t)instances_n(m));
    json_i64(&out, "parked", parked);
    json_str(&out, "broker", watcher_endpoint(m->watcher) ? "up" : "down");
    json_end(&out, '}');
    ctl_send(c, &out);
}

/* The app that a request names, with its configuration. */
static struct app *app_of(struct streammgr *m, const bson_t *rq, const struct conf_stream_app **ret, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant", ""), *name = json_get_str(rq, "app", "");
    const struct conf_tenant *t = conf_tenant(m->conf, tenant);
    const struct conf_stream_app *c = t ? conf_stream_app(t, name) : NULL;
    if (!c || !*c->exec) {
        err_set(e, ERR_REFUSED,
                c ? "app %s/%s has no exec: its instances are not the platform's"
                  : "there is no stream app %s/%s; `mysimbdp app list` shows them",
                tenant, name);
        return NULL;
    }
    *ret = c;
    return app_get(m, tenant, name, true);
}

static int set_stopped(struct streammgr *m, const bson_t *rq, bool stopped, struct err *e)
{
    const struct conf_stream_app *c;
    struct app *a = app_of(m, rq, &c, e);
    int r = !a ? e->code : book_set_stopped(m->book, a->tenant, a->name, stopped, e);
    if (r < 0)
        return r;
    log_info(stopped ? "app_stopped" : "app_started", a->tenant, NULL, "app %s: by command", a->name);
    a->stopped = stopped;
    if (!stopped) {
        app_forgive(a);
        if (a->wanted < 1 && c->max_instances > 0)
            a->wanted = 1;
    } else {
        instances_stop(m, a, "stopped by command");
    }
    app_reconcile(a);
    return 0;
}

static int stop_run(struct streammgr *m, const char *run_id, struct err *e)
{
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        if (instance_stop(a, run_id, "stopped by command"))
            return 0;
    return err_set(e, ERR_REFUSED, "run %s is no instance that runs", run_id);
}

static int scale(struct streammgr *m, const bson_t *rq, struct err *e)
{
    const struct conf_stream_app *c;
    struct app *a = app_of(m, rq, &c, e);
    int64_t count = json_get_i64(rq, "count", -1), epoch = json_get_i64(rq, "epoch", (int64_t)m->epoch),
            expires = json_get_i64(rq, "expires_ms", 0);
    if (!a)
        return e->code;
    if (epoch != (int64_t)m->epoch)
        return err_set(e, ERR_REFUSED, "the order is for an earlier streammgr (epoch %lld; now %lld)", (long long)epoch,
                       (long long)m->epoch);
    if (expires && expires <= clk_wall_ms())
        return err_set(e, ERR_REFUSED, "the order has expired");
    if (count < c->min_instances || count > c->max_instances)
        return err_set(e, ERR_REFUSED, "%lld instances are not within the agreement: min_instances %lld, max_instances %lld",
                       (long long)count, (long long)c->min_instances, (long long)c->max_instances);
    a->order_expires_wall_ms = expires;
    if (a->wanted != count)
        log_info("scaled", a->tenant, NULL, "app %s: %lld instances are wanted, were %lld", a->name, (long long)count,
                 (long long)a->wanted);
    a->wanted = count;
    app_reconcile(a);
    return 0;
}

static bool has_instances(const struct streammgr *m, const char *tenant)
{
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        if (a->instances && (!tenant || !strcmp(a->tenant, tenant)))
            return true;
    return false;
}

static int wait_for_none(struct streammgr *m, struct ctl_conn *c, const char *tenant, struct err *e)
{
    if (n_waiters == sizeof waiters / sizeof *waiters)
        return err_set(e, ERR_REFUSED, "enough others wait already");
    ctl_hold(c);
    waiters[n_waiters++] = (struct waiter){c, xstrdup(tenant)};
    control_check_drained(m);
    return 1;
}

/* The tenant's instances end before the rest of what it has is deleted. */
static int forget(struct streammgr *m, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant", NULL);
    size_t at = 0;
    if (!tenant)
        return err_set(e, ERR_USAGE, "which tenant?");
    for (struct app *a; (a = map_next(&m->apps, &at));)
        if (!strcmp(a->tenant, tenant)) {
            a->stopped = true;
            instances_stop(m, a, "the tenant is removed");
        }
    return wait_for_none(m, c, tenant, e);
}

static int drain(struct streammgr *m, struct ctl_conn *c, struct err *e)
{
    m->draining = true;
    instances_stop(m, NULL, "the platform stops");
    return wait_for_none(m, c, NULL, e);
}

void control_check_drained(struct streammgr *m)
{
    for (size_t i = n_waiters; i-- > 0;) {
        struct waiter w = waiters[i];
        struct err e = {0};
        if (has_instances(m, w.tenant))
            continue;
        waiters[i] = waiters[--n_waiters];
        if (w.tenant)
            book_forget(m->book, w.tenant, &e);
        ctl_answer(w.conn, e.code ? &e : NULL);
        ctl_release(w.conn);
        free(w.tenant);
    }
}

static int serve(void *arg, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    struct streammgr *m = arg;
    const char *op = json_get_str(rq, "op", "");
    if (!strcmp(op, "status"))
        return status(m, c), 1;
    if (!strcmp(op, "apps"))
        return apps(m, c, json_get_str(rq, "tenant", NULL)), 1;
    if (!strcmp(op, "stop") && json_get_str(rq, "run_id", NULL))
        return stop_run(m, json_get_str(rq, "run_id", ""), e);
    if (!strcmp(op, "start") || !strcmp(op, "stop"))
        return set_stopped(m, rq, !strcmp(op, "stop"), e);
    if (!strcmp(op, "scale"))
        return scale(m, rq, e);
    if (!strcmp(op, "reload"))
        return streammgr_reload(m, e);
    if (!strcmp(op, "tenants")) {
        int r = facts_read(m, e);
        instances_reconcile(m);
        return r;
    }
    if (!strcmp(op, "forget"))
        return forget(m, c, rq, e);
    if (!strcmp(op, "drain"))
        return drain(m, c, e);
    return err_set(e, ERR_USAGE, "streammgr does not know \"%s\"", op);
}

int control_start(struct streammgr *m, struct err *e)
{
    AUTO_FREE char *path = home_socket(&m->home, "streammgr.sock");
    return ctl_new(m->base, path, &(struct ctl_ops){serve, NULL, m}, &m->ctl, e);
}

void control_stop(struct streammgr *m)
{
    ctl_free(m->ctl);
    m->ctl = NULL;
}
