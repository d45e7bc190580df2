/* Requests, one JSON object a line: {"op":...}. Every answer is one line with "ok":true, or "ok":false and "error".
 *   status
 *   upload_begin {tenant_id,dataset,name,size,app?,force?} -> {file_id,path}; upload_commit {file_id}; upload_abort {file_id}
 *   retry {file_id} or {tenant_id} -> {n}
 *   stop {run_id}
 *   run {tenant_id,app} -> {n}: releases the files that wait for the app's trigger or for their group
 *   reload; suspend {tenant_id}; resume {tenant_id}
 *   accept_database {tenant_id}               what its MongoDB is now is what it had (database_identity.h)
 *   purge {tenant_id}                         answered when everything of the tenant is gone
 *   drain                                  answered when no run is left; the program then ends
 * An upload whose client goes away before upload_commit is aborted. */
#include "control.h"
#include "candidates.h"
#include "databases.h"
#include "fair_queue.h"
#include "files.h"
#include "filing.h"
#include "inspect.h"
#include "intake.h"
#include "ledger.h"
#include "parking.h"
#include "purge.h"
#include "release.h"
#include "reload.h"
#include "retention.h"
#include "runs.h"
#include "state.h"
#include "tenants.h"
#include "turn.h"
#include "uploads.h"

#include "base/log.h"
#include "base/mem.h"
#include "host/uid_block.h"
#include "loop/ctl.h"

#include <string.h>

static struct ctl *ctl;
static struct ctl_conn *drain_waiters[16];
static size_t n_drain_waiters;

/* The id of the upload that is open on a connection, as its data; NULL when none is. */
static void end_upload(struct ctl_conn *c)
{
    free(ctl_data(c));
    ctl_set_data(c, NULL);
}

static void gone(void *arg, struct ctl_conn *c)
{
    if (ctl_data(c))
        uploads_abort(arg, ctl_data(c));
    end_upload(c);
}

static void add_tenants(struct batchmgr *m, struct buf *b)
{
    size_t i = 0;
    json_begin(b, "tenants", '[');
    for (struct tenant *t; (t = map_next(&m->tenants, &i));) {
        const char *why = t->database_why            ? t->database_why
                          : candidates_are_slowed(t) ? "slowed: too many of its files were refused"
                                                     : fair_queue_why_waiting(m->fair_queue, t->id);
        if (t->purged)
            continue;
        json_begin(b, NULL, '{');
        json_str(b, "tenant_id", t->id);
        json_str(b, "state",
                 t->purging       ? "being removed"
                 : !t->configured ? "unconfigured"
                 : t->suspended   ? "suspended"
                                  : "active");
        json_i64(b, "unfinished", t->usage.n_live);
        json_i64(b, "queued", (int64_t)fair_queue_n_queued(m->fair_queue, t->id));
        json_i64(b, "held", (int64_t)release_n(m, t->id));
        json_i64(b, "running", (int64_t)fair_queue_n_running(m->fair_queue, t->id));
        json_str(b, "waits_for", why);
        json_end(b, '}');
    }
    json_end(b, ']');
}

static void status(struct batchmgr *m, struct ctl_conn *c)
{
    AUTO_BUF struct buf b = {0};
    char db_why[256] = "";
    bool stalled = ledger_stalled(m->ledger, NULL, 0);
    bool up = databases_is_up(m->databases, db_why, sizeof db_why);
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_i64(&b, "pid", getpid());
    json_time(&b, "started_at", m->started_wall_ms);
    json_str(&b, "intake", m->draining ? "draining" : m->disk_low ? "paused: disk low" : stalled ? "paused: ledger" : "open");
    json_str(&b, "database", up ? "up" : "down");
    json_str(&b, "database_error", up ? NULL : db_why);
    json_i64(&b, "clock_ahead_s", retention_ahead_s(m));
    json_i64(&b, "unfinished", (int64_t)m->files.n);
    json_i64(&b, "inspecting", (int64_t)inspect_n_queued(m));
    json_i64(&b, "queued", (int64_t)fair_queue_n_queued(m->fair_queue, NULL));
    json_i64(&b, "held", (int64_t)release_n(m, NULL));
    json_i64(&b, "running", (int64_t)runs_n(m));
    json_begin(&b, "parked_apps", '[');
    parking_list(m->parking, &b);
    json_end(&b, ']');
    add_tenants(m, &b);
    json_end(&b, '}');
    ctl_send(c, &b);
}

static void on_upload_done(void *arg, const char *file_id)
{
    struct ctl_conn *c = arg;
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_str(&b, "file_id", file_id);
    json_end(&b, '}');
    ctl_send(c, &b);
    ctl_release(c);
}

static void on_upload_dropped(void *arg)
{
    ctl_release(arg);
}

static const struct uploads_ops upload_ops = {on_upload_done, on_upload_dropped};

static int upload_begin(struct batchmgr *m, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    char id[ID_SIZE];
    char *path = NULL;
    if (ctl_data(c))
        return err_set(e, ERR_REFUSED, "one upload at a time on a connection");
    int r =
        uploads_begin(m, json_get_str(rq, "tenant_id", ""), json_get_str(rq, "dataset", ""), json_get_str(rq, "name", ""),
                      json_get_i64(rq, "size", 0), json_get_str(rq, "app", NULL), json_get_bool(rq, "force", false), id, &path, e);
    if (r < 0)
        return r;
    ctl_set_data(c, xstrdup(id));
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_str(&b, "file_id", id);
    json_str(&b, "path", path);
    json_end(&b, '}');
    ctl_send(c, &b);
    free(path);
    return 1;
}

static void answer_count(struct ctl_conn *c, int64_t n)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_i64(&b, "n", n);
    json_end(&b, '}');
    ctl_send(c, &b);
}

static int retry(struct batchmgr *m, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    const char *id = json_get_str(rq, "file_id", NULL), *tenant = json_get_str(rq, "tenant_id", NULL);
    int64_t n = 0;
    if (id) {
        struct file *f = file_find(m, id);
        if (f && f->reason && !strcmp(f->reason, "exec_error")) {
            parking_lift(m->parking, f->tenant, NULL, false);
            return 0;
        }
        return filing_retry(m, id, e);
    }
    if (!tenant || !conf_valid_id(tenant))
        return err_set(e, ERR_USAGE, "retry needs a file_id or a tenant");
    parking_lift(m->parking, tenant, NULL, false);
    char **ids = ledger_retryable(m->ledger, tenant);
    for (char **at = ids; *at; at++) {
        n += filing_retry(m, *at, NULL) == 0;
        free(*at);
    }
    free(ids);
    answer_count(c, n);
    return 1;
}

static int stop(struct batchmgr *m, const bson_t *rq, struct err *e)
{
    const char *id = json_get_str(rq, "run_id", "");
    struct run *r = runs_find(m, id);
    if (!r)
        return err_set(e, ERR_REFUSED, "no run %s is going; `mysimbdp runs` shows them", id);
    runs_order_stop(r, RUN_STOP_person);
    return 0;
}

static int run_app(struct batchmgr *m, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant_id", ""), *app = json_get_str(rq, "app", "");
    const struct conf_tenant *t = conf_tenant(m->conf, tenant);
    if (!t)
        return err_set(e, ERR_REFUSED, "no tenant \"%s\"; `mysimbdp tenant list` shows them", tenant);
    if (!conf_app(t, app))
        return err_set(e, ERR_REFUSED, "tenant %s has no batch app \"%s\"; see %s", tenant, app, t->file);
    int64_t n = release_app(m, tenant, app);
    log_info("released", tenant, NULL, "%lld files for app %s by command", (long long)n, app);
    answer_count(c, n);
    return 1;
}

static int suspend(struct batchmgr *m, const bson_t *rq, bool suspended, struct err *e)
{
    const char *id = json_get_str(rq, "tenant_id", "");
    struct tenant *t = map_get(&m->tenants, id);
    if (!t)
        return err_set(e, ERR_REFUSED, "no tenant \"%s\"; `mysimbdp tenant list` shows them", id);
    int r = ledger_set_suspended(m->ledger, id, suspended, e);
    if (r < 0)
        return r;
    t->suspended = suspended;
    databases_let_tenant(m->databases, t);
    log_info(suspended ? "suspended" : "resumed", id, NULL, "by command");
    intake_rescan(m);
    turn_kick(m);
    return 0;
}

static void on_purged(void *arg, const struct err *e)
{
    ctl_answer(arg, e);
    ctl_release(arg);
}

static int purge(struct batchmgr *m, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    int r = purge_begin(m, json_get_str(rq, "tenant_id", ""), on_purged, c, e);
    if (r == 0)
        ctl_hold(c);
    return r < 0 ? r : 1;
}

static int drain(struct batchmgr *m, struct ctl_conn *c, struct err *e)
{
    if (n_drain_waiters == sizeof drain_waiters / sizeof *drain_waiters)
        return err_set(e, ERR_REFUSED, "enough others wait for that already");
    ctl_hold(c);
    drain_waiters[n_drain_waiters++] = c;
    m->draining = true;
    log_info("drain", NULL, NULL, "admission has stopped; %zu runs are asked to end", runs_n(m));
    runs_order_stop_all(m, NULL, RUN_STOP_drain);
    turn_check_quit(m);
    return 1;
}

static int serve(void *arg, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    struct batchmgr *m = arg;
    const char *op = json_get_str(rq, "op", "");
    if (!strcmp(op, "status"))
        return status(m, c), 1;
    if (!strcmp(op, "upload_begin"))
        return upload_begin(m, c, rq, e);
    if (!strcmp(op, "upload_commit")) {
        const char *id = json_get_str(rq, "file_id", "");
        int r = uploads_commit(m, id, &upload_ops, c, e);
        if (r == 0) {
            end_upload(c);
            ctl_hold(c);
        }
        return r < 0 ? r : 1;
    }
    if (!strcmp(op, "upload_abort")) {
        uploads_abort(m, json_get_str(rq, "file_id", ""));
        end_upload(c);
        return 0;
    }
    if (!strcmp(op, "retry"))
        return retry(m, c, rq, e);
    if (!strcmp(op, "stop"))
        return stop(m, rq, e);
    if (!strcmp(op, "run"))
        return run_app(m, c, rq, e);
    if (!strcmp(op, "reload"))
        return reload(m, e);
    if (!strcmp(op, "trust_clock"))
        return retention_trust_clock(m), 0;
    if (!strcmp(op, "suspend") || !strcmp(op, "resume"))
        return suspend(m, rq, op[0] == 's', e);
    if (!strcmp(op, "accept_database"))
        return databases_accept(m->databases, json_get_str(rq, "tenant_id", ""), e);
    if (!strcmp(op, "purge"))
        return purge(m, c, rq, e);
    if (!strcmp(op, "drain"))
        return drain(m, c, e);
    return err_set(e, ERR_USAGE, "unknown op \"%s\"", op);
}

int control_start(struct batchmgr *m, struct err *e)
{
    static const char *const of_monitor[] = {"status", NULL};
    AUTO_FREE char *path = home_socket(&m->home, "batchmgr.sock");
    return ctl_new(m->base, path,
                   &(struct ctl_ops){.serve = serve,
                                     .gone = gone,
                                     .arg = m,
                                     .guest = uid_of_program(&m->home, m->conf->platform.uid_base, UID_MONITOR),
                                     .guest_ops = of_monitor},
                   &ctl, e);
}

void control_stop(void)
{
    ctl_free(ctl);
    ctl = NULL;
    while (n_drain_waiters)
        ctl_release(drain_waiters[--n_drain_waiters]);
}

void control_drained(void)
{
    while (n_drain_waiters) {
        struct ctl_conn *c = drain_waiters[--n_drain_waiters];
        ctl_answer(c, NULL);
        ctl_release(c);
    }
}
