/* streammgr's control socket. Requests (lib/loop/ctl.h) and what is answered beside "ok"; a person's come by the command line, a
 * tenant's by the gateway:
 *
 *   status                 {"pid","started_at","instances","parked","broker"}
 *   apps {tenant_id?}      {"epoch","apps":[...]}
 *   instances {tenant_id,app?}  {"apps":[...],"instances":[...]}, as tenants are told of them (docs/openapi.yaml, Instances)
 *   start {tenant_id,app,args?,idempotency_key?}
 *       {"tenant_id","app","run_id","reason"}: the youngest instance, or null and why there is none. args: one more instance, with
 *       these instead of the configuration's (manual_instances.h); run_id is how it is known from now on. idempotency_key, with
 *       args: who asks again by it for the same is told the same instance (ask_request.h).
 *   stop {tenant_id,app}   it stays stopped until it is started
 *   stop {run_id,node_is_off:true}   a person says that the node of that instance, which nobody hears, is off
 *   stop {run_id,tenant_id?}
 *       {"tenant_id","app","note","desired","stopped"}: that instance, and the count is lower by it; the last one stops the app.
 *       run_id: of its run, or as `start` with args named it
 *   scale {tenant_id,app,count,by?,pin?,epoch?,seq?,expires_ms?}
 *       {"tenant_id","app"}. An absolute count. epoch: as `apps` told it; another one is an earlier streammgr's, and stale. seq:
 * one lower than the last is stale, too. expires_ms: not after that time of the wall clock. pin true: the monitor's orders (by:
 *       "monitor") are refused from now on; false: no longer, and the count may be left out.
 *   reload                 reads the configuration
 *   tenants                reads who is suspended, and where databases are
 *   forget {tenant_id}     tenant remove --purge: its instances end and are forgotten; answered then
 *   move_hold {tenant_id}  answered when none of its instances is left; the tenant is held (programs/batchmgr/moving.h)
 *   move_rows {tenant_id}  moving.h
 *   drain                  all instances end; answered when none is left, but for those whose node nobody hears
 *
 * Guests: the monitor has `apps` and `scale`. The gateway (streammgr.gateway.sock) has `status`, `instances`, `start`, `stop` and
 * `scale`; but for `status` it names the tenant, and a tenant that is not configured is not found. For it, arguments are bounded,
 * so many instances with arguments are started of an app in a minute, and none of builtin:pipe, whose arguments are what is
 * executed (ask_request.h). Codes of refusals beside ctl.h's:
 *
 *   not_found          no such tenant, app or running instance, or the instance is another tenant's
 *   not_managed        the app's instances are not the platform's
 *   no_args            the app takes no arguments, or none from there
 *   idempotency_key    it was used for other arguments or another app, or is none
 *   max_instances      there may be no more
 *   agreement          the count is not within min_instances and max_instances
 *   app_stopped        it is to be started first
 *   suspended          (to the gateway) the tenant is
 *   rate               (to the gateway) as many were started in this minute as may be
 *   busy unavailable   there is no capacity now; what it needs is not there now
 *   conflict           its image cannot be had
 *   pinned             (to the monitor) a person set the count
 *   stale              epoch, seq or expires_ms
 *   usage              malformed, or the tenant is not named
 */
#include "control.h"
#include "app.h"
#include "app_list.h"
#include "ask_request.h"
#include "drain.h"
#include "instance.h"
#include "instances_db.h"
#include "manual_instances.h"
#include "moving.h"
#include "reconcile.h"
#include "reload.h"
#include "restart.h"
#include "streammgr.h"
#include "start_wait.h"
#include "tenant_facts.h"
#include "watcher.h"

#include "base/clk.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "host/uid_block.h"
#include "loop/ctl.h"
#include "manager/run_handle.h"

#include <string.h>
#include <unistd.h>

/* Who waits until all instances have ended, or all of a tenant. */
static struct waiter {
    struct ctl_conn *conn;
    char *tenant; /* NULL: all */
    bool forget;  /* what it has goes then */
} waiters[16];
static size_t n_waiters;

static void apps(struct streammgr *m, struct ctl_conn *c, const char *tenant)
{
    AUTO_BUF struct buf out = {0};
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_i64(&out, "epoch", (int64_t)m->epoch);
    json_begin(&out, "apps", '[');
    app_list_print(m, &out, tenant);
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
    json_i64(&out, "instances", (int64_t)instances_of(m, NULL));
    json_i64(&out, "parked", parked);
    json_str(&out, "broker", watcher_endpoint(m->watcher) ? "up" : "down");
    json_end(&out, '}');
    ctl_send(c, &out);
}

/* The app that a request names, with its configuration. */
static struct app *app_of(struct streammgr *m, const bson_t *rq, const struct conf_stream_app **ret, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant_id", ""), *name = json_get_str(rq, "app", "");
    const struct conf_tenant *t = conf_tenant(m->conf, tenant);
    const struct conf_stream_app *c = t ? conf_stream_app(t, name) : NULL;
    if (!c) {
        err_refuse(e, "not_found", 0, "there is no stream app %s/%s; `mysimbdp app list` shows them", tenant, name);
        return NULL;
    }
    if (!*c->exec) {
        err_refuse(e, "not_managed", 0, "app %s/%s has no exec: its instances are not the platform's", tenant, name);
        return NULL;
    }
    *ret = c;
    return app_get(m, tenant, name, true);
}

/* Sets what is asked for; on failure to write it into the book, what was asked for before stays. */
static int ask_for(struct app *a, int64_t wanted, int64_t least, bool stopped, struct err *e)
{
    int64_t wanted_before = a->wanted, least_before = a->least;
    bool stopped_before = a->stopped;
    a->wanted = wanted;
    a->least = least;
    a->stopped = stopped;
    int r = instances_db_put_app(a->mgr->book, a, e);
    if (r < 0) {
        a->wanted = wanted_before;
        a->least = least_before;
        a->stopped = stopped_before;
    }
    return r;
}

static void answer_started(struct ctl_conn *conn, const struct app *a, const char *run_id, const char *why)
{
    AUTO_BUF struct buf out = {0};
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_str(&out, "tenant_id", a->tenant);
    json_str(&out, "app", a->name);
    json_str(&out, "run_id", run_id);
    json_str(&out, "reason", run_id ? NULL : why);
    json_end(&out, '}');
    ctl_send(conn, &out);
}

/* The app may run again, with at least one instance. */
static int start_scaled(struct app *a, struct ctl_conn *conn, struct err *e)
{
    char *args = a->args;
    const char *why;
    a->args = NULL;
    int r = ask_for(a, a->wanted > 0 ? a->wanted : 1, -1, false, e);
    if (r < 0) {
        a->args = args;
        return r;
    }
    free(args);
    a->generation = 0;
    log_info("app_started", a->tenant, NULL, "app %s: by command", a->name);
    restart_forgive(a);
    reconcile_app(a);
    const struct instance *i = a->instances;
    while (i && !instance_is_scaled(i))
        i = i->next;
    int64_t target = app_target(a, &why);
    answer_started(conn, a, i ? i->run_id : NULL,
                   why       ? why
                   : !target ? "max_instances are there by hand already"
                             : "there is no room in stream_pct of the capacity yet, or what starts programs is not ready");
    return 1;
}

/* The gateway asks for one tenant at a time, which the configuration has. 0, or why not. */
static int check_tenant(struct streammgr *m, const struct ctl_conn *c, const char *op, const char *tenant, struct err *e)
{
    if (!ctl_is_guest(c, "gateway") || !strcmp(op, "status"))
        return 0;
    if (!tenant)
        return err_set(e, ERR_USAGE, "the request names no tenant");
    if (!conf_tenant(m->conf, tenant))
        return err_refuse(e, "not_found", 0, "there is no tenant \"%s\"", tenant);
    const struct tenant_facts *f = tenant_facts_of(m, tenant);
    if (f && f->suspended && (!strcmp(op, "start") || !strcmp(op, "scale")))
        return err_refuse(e, "suspended", 0, "tenant %s is suspended", tenant);
    return 0;
}

static void start_now(struct streammgr *m, struct ctl_conn *conn, const bson_t *rq);

static int start_app(struct streammgr *m, struct ctl_conn *conn, const bson_t *rq, bool may_wait, struct err *e)
{
    const struct conf_stream_app *c;
    struct app *a = app_of(m, rq, &c, e);
    struct err none = {0};
    char id[ID_SIZE];
    if (!a)
        return e->code;
    tenant_facts_look(m, &none); /* who was told that the database is back need not wait for the tick */
    if (may_wait && start_wait(m, conn, rq, start_now))
        return 1;
    if (bson_has_field(rq, "args")) {
        int r = ask_request(a, c, ctl_is_guest(conn, "gateway"), rq, id, e);
        if (r == 0)
            answer_started(conn, a, id, NULL);
        return r < 0 ? r : 1;
    }
    if (c->max_instances < 1)
        return err_refuse(e, "max_instances", 0, "max_instances of %s/%s is 0", a->tenant, a->name);
    return start_scaled(a, conn, e);
}

/* Behind its wait: the configuration may be another, the app may be gone. */
static void start_now(struct streammgr *m, struct ctl_conn *conn, const bson_t *rq)
{
    struct err e = {0};
    if (check_tenant(m, conn, "start", json_get_str(rq, "tenant_id", NULL), &e) < 0 || start_app(m, conn, rq, false, &e) < 0)
        ctl_answer(conn, &e);
}

static int stop_app(struct streammgr *m, const bson_t *rq, struct err *e)
{
    const struct conf_stream_app *c;
    struct app *a = app_of(m, rq, &c, e);
    if (!a)
        return e->code;
    a->pinned = false;
    int r = ask_for(a, 0, -1, true, e);
    if (r < 0)
        return r;
    log_info("app_stopped", a->tenant, NULL, "app %s: by command", a->name);
    manual_instances_end(a);
    drain_all(m, a, "stopped by command");
    reconcile_app(a);
    return 0;
}

/* A person stopped an instance: one fewer is wanted from now on. With the last one the app is stopped, since a message would wake
 * another. */
static int lower_count(struct app *a, char **ret_note, struct err *e)
{
    const char *why;
    int64_t count = app_target(a, &why);
    bool pinned_before = a->pinned, last = count <= 1;
    if (a->stopped) { /* there is nothing to be lowered */
        *ret_note = xasprintf("%s/%s is stopped", a->tenant, a->name);
        return 0;
    }
    a->pinned = !last;
    int r = ask_for(a, last ? 0 : count - 1, last ? -1 : count - 1, last, e);
    if (r < 0) {
        a->pinned = pinned_before;
        return r;
    }
    *ret_note = last ? xasprintf("%s/%s had no other instance: it is stopped until `mysimbdp app start %s/%s`", a->tenant, a->name,
                                 a->tenant, a->name)
                     : xasprintf("%s/%s has %lld instances from now on, was %lld, until `mysimbdp app scale %s/%s COUNT|auto`",
                                 a->tenant, a->name, (long long)count - 1, (long long)count, a->tenant, a->name);
    return 0;
}

static void answer_stopped(struct ctl_conn *conn, struct app *a, const char *run_id, const char *note)
{
    AUTO_BUF struct buf out = {0};
    const char *why;
    log_info("instance_stopped", a->tenant, run_id, "by command: %s", note);
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    json_str(&out, "tenant_id", a->tenant);
    json_str(&out, "app", a->name);
    json_str(&out, "note", note);
    json_i64(&out, "desired", app_target(a, &why));
    json_bool(&out, "stopped", a->stopped);
    json_end(&out, '}');
    ctl_send(conn, &out);
}

static struct instance *find_instance(struct app *a, const char *run_id)
{
    struct instance *i = a->instances;
    while (i && strcmp(i->run_id, run_id) != 0)
        i = i->next;
    return i ? i : ask_instance(a, run_id);
}

static int node_is_off(struct streammgr *m, const char *run_id, struct err *e)
{
    size_t at = 0;
    struct instance *i = NULL;
    for (struct app *a; !i && (a = map_next(&m->apps, &at));)
        for (i = a->instances; i && strcmp(i->run_id, run_id) != 0; i = i->next) {
        }
    if (!i || !run_handle_node_is_off(i->handle))
        return err_refuse(e, "usage", 0, "run %s does not wait for a node that is not heard; `mysimbdp stop %s` ends it", run_id,
                          run_id);
    log_info("node_is_off", i->app->tenant, i->run_id, "said of node %s by a person", i->node ? i->node : "?");
    return 0;
}

/* tenant: whose it has to be; NULL: anybody's. */
static int stop_run(struct streammgr *m, struct ctl_conn *conn, const char *run_id, const char *tenant, struct err *e)
{
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));) {
        if (tenant && strcmp(tenant, a->tenant) != 0)
            continue;
        struct instance *i = find_instance(a, run_id);
        const char *ask = i ? i->ask : ask_of(a, run_id) ? run_id : "";
        AUTO_FREE char *note = NULL;
        if (!i && !*ask)
            continue;
        int r = i && instance_is_scaled(i) ? lower_count(a, &note, e) : 0;
        if (r < 0)
            return r;
        if (!note)
            note = xstrdup(*ask ? "it had arguments of its own, and no other comes in its place" : "it was already told to end");
        ask_end(a, ask);
        if (i)
            drain_instance(i, DRAIN_GENTLY, "stopped by command");
        reconcile_app(a);
        answer_stopped(conn, a, run_id, note);
        return 1;
    }
    return err_refuse(e, "not_found", 0, "run %s is not an instance that is running", run_id);
}

/* How many instances there are to be, and by whose word. */
struct order {
    bool by_monitor, pin;
    int64_t count, epoch, seq, expires_ms; /* seq -1, expires_ms 0: not told */
};

/* What the monitor says counts as the monitor's, whatever the request says; what tenants say by the gateway, as a person's: it has
 * no number, which would make the monitor's next orders stale. */
static struct order read_order(struct streammgr *m, const struct ctl_conn *c, const bson_t *rq)
{
    bool monitor = ctl_is_guest(c, "monitor"), gateway = ctl_is_guest(c, "gateway");
    struct order o = {.by_monitor = monitor || (!gateway && !strcmp(json_get_str(rq, "by", ""), "monitor")),
                      .pin = !monitor && json_get_bool(rq, "pin", false),
                      .count = json_get_i64(rq, "count", -1),
                      .epoch = (int64_t)m->epoch,
                      .seq = -1};
    if (gateway)
        return o;
    o.epoch = json_get_i64(rq, "epoch", o.epoch);
    o.seq = json_get_i64(rq, "seq", -1);
    o.expires_ms = json_get_i64(rq, "expires_ms", 0);
    return o;
}

/* Why the order is not to be followed. 0: it is. */
static int check_order(const struct app *a, const struct conf_stream_app *c, const struct order *o, struct err *e)
{
    const struct streammgr *m = a->mgr;
    if (o->epoch != (int64_t)m->epoch)
        return err_refuse(e, "stale", 0, "the order is for an earlier streammgr (epoch %lld; now %lld)", (long long)o->epoch,
                          (long long)m->epoch);
    if (o->seq >= 0 && o->seq < a->order_seq)
        return err_refuse(e, "stale", 0, "the order is older than the last one (seq %lld; the last was %lld)", (long long)o->seq,
                          (long long)a->order_seq);
    if (o->expires_ms && o->expires_ms <= clk_wall_ms())
        return err_refuse(e, "stale", 0, "the order has expired");
    if (o->by_monitor && a->pinned)
        return err_refuse(e, "pinned", 0, "the count was set by command; `mysimbdp app scale %s/%s auto` gives it back", a->tenant,
                          a->name);
    if (!o->by_monitor && o->count > c->max_instances - (int64_t)a->n_asks && o->count <= c->max_instances)
        return err_refuse(e, "max_instances", 0, "max_instances of %s/%s is %lld, and %zu of them are there by hand", a->tenant,
                          a->name, (long long)c->max_instances, a->n_asks);
    if (o->count < c->min_instances || o->count > c->max_instances)
        return err_refuse(e, "agreement", 0, "%lld instances are not within the agreement: min_instances %lld, max_instances %lld",
                          (long long)o->count, (long long)c->min_instances, (long long)c->max_instances);
    if (a->stopped)
        return err_refuse(e, "app_stopped", 0, "app %s/%s is stopped; `mysimbdp app start %s/%s` first", a->tenant, a->name,
                          a->tenant, a->name);
    return 0;
}

static int scale_app(struct app *a, const struct conf_stream_app *c, const struct order *o, struct err *e)
{
    int r = check_order(a, c, o, e);
    if (r < 0)
        return r;
    int64_t before = a->wanted;
    bool was_pinned = a->pinned;
    a->pinned |= o->pin;
    r = o->count == before && a->pinned == was_pinned && a->least < 0 ? 0 : ask_for(a, o->count, -1, false, e);
    if (r < 0) {
        a->pinned = was_pinned;
        return r;
    }
    a->order_expires_wall_ms = o->expires_ms;
    a->order_seq = o->seq >= 0 ? o->seq : a->order_seq;
    if (before != o->count)
        log_info("scaled", a->tenant, NULL, "app %s: %lld instances are wanted, were %lld (by %s)", a->name, (long long)o->count,
                 (long long)before, o->by_monitor ? "the monitor" : "command");
    reconcile_app(a);
    return 0;
}

/* The monitor decides again. */
static int unpin(struct app *a, struct err *e)
{
    a->pinned = false;
    int r = ask_for(a, a->wanted, -1, a->stopped, e);
    if (r == 0)
        reconcile_app(a);
    return r;
}

static int scale(struct streammgr *m, struct ctl_conn *conn, const bson_t *rq, struct err *e)
{
    AUTO_BUF struct buf out = {0};
    const struct conf_stream_app *c;
    struct app *a = app_of(m, rq, &c, e);
    bson_iter_t it;
    if (!a)
        return e->code;
    struct order order = read_order(m, conn, rq);
    bool only_unpin = !ctl_is_guest(conn, "monitor") && !json_get_bool(rq, "pin", true) && !bson_iter_init_find(&it, rq, "count");
    int r = only_unpin ? unpin(a, e) : scale_app(a, c, &order, e);
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", r == 0);
    json_str(&out, "tenant_id", a->tenant);
    json_str(&out, "app", a->name);
    if (r < 0) {
        json_str(&out, "error", e->msg);
        json_str(&out, "code", err_reason(e));
    }
    json_end(&out, '}');
    ctl_send(conn, &out);
    return 1;
}

static int wait_for_none(struct streammgr *m, struct ctl_conn *c, const char *tenant, bool forget, struct err *e)
{
    if (n_waiters == sizeof waiters / sizeof *waiters)
        return err_set(e, ERR_REFUSED, "too many requests wait for instances to end already");
    ctl_hold(c);
    waiters[n_waiters++] = (struct waiter){c, xstrdup(tenant), forget};
    control_check_drained(m);
    return 1;
}

/* The tenant's instances end before the rest of what it has is deleted. */
static int forget(struct streammgr *m, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant_id", NULL);
    size_t at = 0;
    if (!tenant)
        return err_set(e, ERR_USAGE, "the request names no tenant");
    for (struct app *a; (a = map_next(&m->apps, &at));)
        if (!strcmp(a->tenant, tenant)) {
            a->stopped = a->forgotten = true;
            a->wanted = 0;
            manual_instances_end(a);
            drain_all(m, a, "the tenant is removed");
        }
    return wait_for_none(m, c, tenant, true, e);
}

static int drain(struct streammgr *m, struct ctl_conn *c, struct err *e)
{
    m->draining = true;
    drain_all(m, NULL, "the platform stops");
    return wait_for_none(m, c, NULL, false, e);
}

/* Its instances end since it is suspended. */
static int hold(struct streammgr *m, struct ctl_conn *c, const char *tenant, struct err *e)
{
    int r = tenant_facts_read(m, e);
    const struct tenant_facts *f = r == 0 && tenant ? tenant_facts_of(m, tenant) : NULL;
    if (r < 0)
        return r;
    if (!f || !f->held)
        return err_set(e, ERR_REFUSED, "tenant %s is not held", tenant ? tenant : "");
    reconcile_all(m);
    return wait_for_none(m, c, tenant, false, e);
}

/* Of one that was moved nothing is billed here: its rows are the other home's. */
static void forget_book(struct streammgr *m, const char *tenant, struct err *e)
{
    struct err none = {0};
    tenant_facts_read(m, &none);
    const struct tenant_facts *f = tenant_facts_of(m, tenant);
    instances_db_forget(m->book, tenant, !f || !f->held, e);
}

void control_check_drained(struct streammgr *m)
{
    for (size_t i = n_waiters; i-- > 0;) {
        struct waiter w = waiters[i];
        struct err e = {0};
        if (w.tenant ? instances_of(m, w.tenant) : instances_heard(m))
            continue;
        waiters[i] = waiters[--n_waiters];
        if (w.forget)
            forget_book(m, w.tenant, &e);
        ctl_answer(w.conn, e.code ? &e : NULL);
        ctl_release(w.conn);
        free(w.tenant);
    }
}

static int instances(struct streammgr *m, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant_id", ""), *app = json_get_str(rq, "app", NULL);
    const struct conf_tenant *t = conf_tenant(m->conf, tenant);
    AUTO_BUF struct buf out = {0};
    if (!t || (app && !conf_stream_app(t, app)))
        return err_refuse(e, "not_found", 0, "there is no stream app %s/%s", tenant, app ? app : "");
    json_begin(&out, NULL, '{');
    json_bool(&out, "ok", true);
    app_list_of_tenant(m, &out, t, app);
    json_end(&out, '}');
    ctl_send(c, &out);
    return 1;
}

static int serve(void *arg, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    struct streammgr *m = arg;
    const char *op = json_get_str(rq, "op", ""), *tenant = json_get_str(rq, "tenant_id", NULL);
    int r = check_tenant(m, c, op, tenant, e);
    if (r < 0)
        return r;
    if (!strcmp(op, "status"))
        return status(m, c), 1;
    if (!strcmp(op, "apps"))
        return apps(m, c, tenant), 1;
    if (!strcmp(op, "instances"))
        return instances(m, c, rq, e);
    if (!strcmp(op, "stop") && json_get_bool(rq, "node_is_off", false) && !ctl_is_guest(c, "gateway"))
        return node_is_off(m, json_get_str(rq, "run_id", ""), e);
    if (!strcmp(op, "stop") && json_get_str(rq, "run_id", NULL))
        return stop_run(m, c, json_get_str(rq, "run_id", ""), tenant, e);
    if (!strcmp(op, "start"))
        return start_app(m, c, rq, true, e);
    if (!strcmp(op, "stop"))
        return stop_app(m, rq, e);
    if (!strcmp(op, "scale"))
        return scale(m, c, rq, e);
    if (!strcmp(op, "reload"))
        return streammgr_reload(m, e);
    if (!strcmp(op, "tenants")) {
        r = tenant_facts_read(m, e);
        reconcile_all(m);
        return r;
    }
    if (!strcmp(op, "forget"))
        return forget(m, c, rq, e);
    if (!strcmp(op, "move_hold"))
        return hold(m, c, tenant, e);
    if (!strcmp(op, "move_rows"))
        return moving_take_rows(m, c, tenant ? tenant : "", e);
    if (!strcmp(op, "drain"))
        return drain(m, c, e);
    return err_set(e, ERR_USAGE, "streammgr does not know \"%s\"", op);
}

int control_start(struct streammgr *m, struct err *e)
{
    static const char *const of_monitor[] = {"apps", "scale", NULL}, *const of_gateway[] = {"status", "instances", "start",
                                                                                            "stop",   "scale",     NULL};
    const int64_t base = m->conf->platform.uid_base;
    const struct ctl_guest guests[] = {{"monitor", uid_of_program(&m->home, base, UID_MONITOR), CTL_BY_GROUP, of_monitor},
                                       {"gateway", uid_of_program(&m->home, base, UID_GATEWAY), CTL_BY_SOCKET, of_gateway}};
    AUTO_FREE char *path = home_socket(&m->home, "streammgr.sock");
    return ctl_new(m->base, path,
                   &(struct ctl_ops){.serve = serve, .arg = m, .guests = guests, .n_guests = sizeof guests / sizeof *guests},
                   &m->ctl, e);
}

void control_stop(struct streammgr *m)
{
    ctl_free(m->ctl);
    m->ctl = NULL;
    start_wait_stop();
    moving_stop();
    while (n_waiters) {
        ctl_release(waiters[--n_waiters].conn);
        free(waiters[n_waiters].tenant);
    }
}
