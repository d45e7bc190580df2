/* Requests, one JSON object a line: {"op":...} (lib/loop/ctl.h). Every answer is one line with "ok":true, or "ok":false, "error"
 * and "code".
 * - status {tenant_id?} -> {pid,started_at,intake,database,database_error,clock_ahead_s,unfinished,inspecting,queued,held,running,
 *   parked_apps:["TENANT/APP",...],tenants:[{tenant_id,state,unfinished,queued,held,running,arrived,settled,files_per_s,rows_per_s,
 *   waits_for}]}. arrived, settled: files since this program's begin; files_per_s, rows_per_s: verdicts and rows loaded, of the
 * last five minutes.
 * - upload_begin {tenant_id,dataset,name,size,app?,force?,trace?} -> {file_id,path}; upload_commit {file_id}; upload_abort
 * {file_id}. An upload whose client goes away before upload_commit is aborted.
 * - retry {file_id,tenant_id?}; retry {tenant_id} -> {n,more}
 * - stop {run_id,tenant_id?,node_is_off?}
 * - run {tenant_id,app} -> {n}: releases the files that wait for the app's trigger or for their group
 * - reload
 * - suspend {tenant_id}; resume {tenant_id}
 * - accept_database {tenant_id}: what its MongoDB is now is what it had (database_identity.h)
 * - purge {tenant_id}: answered when everything of the tenant is gone
 * - move_…: a tenant's move to another home (moving.h)
 * - drain: answered when no run is left; the program then ends
 *
 * The monitor is a guest with `status`. The gateway is one (batchmgr.gateway.sock) with `status`, `retry`, `stop`, `run` and
 *   upload_check {tenant_id,dataset,name?,size?,app?} -> {max_bytes}: such a file would be taken now; nothing is kept of it.
 *       Without a name: nothing stands against files of the dataset in general
 *       max_bytes: how many bytes may come, null: any number
 *   hand_in {tenant_id,dataset,name,size,app?,force?,trace?,spool,idempotency_key?,account} -> {file_id,again}: the file `spool` of
 *       staging/.gateway is the platform's from now on, as durably as an upload's. again: it was before, and what lay in the spool
 *       (again) was removed. When it is refused it stays in the spool (hand_in.h)
 *   delete {tenant_id,file_id}: a quarantined or rejected file's bytes go, its row stays; answered when that is durable, also where
 *       they were gone already
 * It names the tenant in all but `status`; files and runs of another tenant's are not found. `retry` takes up RETRIES_AT_ONCE files
 * at most; "more" says that there may be others.
 *
 * Codes of refusals, beside ctl.h's:
 *   not_found                                 no such tenant, file or run, or it is another tenant's
 *   state                                     the file's state does not allow it
 *   busy                      (wait)          the file is on its way to quarantine/
 *   moved                                     the tenant is another home's now
 *   moving                    (wait)          it is being moved
 *   suspended no_dataset no_app name          of upload_check and hand_in: as they say
 *   draining disk_low ledger slowed (wait)    nothing is taken now; slowed: of this tenant, many of whose files were refused
 *   format formats valid_formats max_file_bytes max_files_in_staging max_files_per_day max_bytes_per_day
 *                                             the agreement; the last three with retry_after_s where waiting helps
 *   spool                                     of hand_in: what lies there is not what may be handed in: the gateway's mistake, or
 *                                             it waited for too long and was swept
 *   idempotency_key                           of hand_in: it is too long, or was used for another file
 *   usage                                     malformed, or the tenant is not named */
#include "control.h"
#include "candidates.h"
#include "databases.h"
#include "fair_queue.h"
#include "files.h"
#include "filing.h"
#include "hand_in.h"
#include "inspect.h"
#include "intake.h"
#include "ledger.h"
#include "moving.h"
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

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/tenants.h"
#include "host/uid_block.h"
#include "loop/ctl.h"
#include "manager/run_handle.h"

#include <string.h>

enum { RETRIES_AT_ONCE = 1000 }; /* by the gateway */

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

/* only: of this one; NULL: of all. */
static void add_tenants(struct batchmgr *m, struct buf *b, const char *only)
{
    size_t i = 0;
    json_begin(b, "tenants", '[');
    for (struct tenant *t; (t = map_next(&m->tenants, &i));) {
        const char *why = t->purging                 ? purge_phase(m, t->id)
                          : t->database_why          ? t->database_why
                          : candidates_are_slowed(t) ? "slowed: too many of its files were refused"
                                                     : fair_queue_why_waiting(m->fair_queue, t->id);
        double files, rows;
        if (t->purged || (only && strcmp(only, t->id) != 0))
            continue;
        json_begin(b, NULL, '{');
        json_str(b, "tenant_id", t->id);
        json_str(b, "state",
                 t->purging                ? "being removed"
                 : !t->configured          ? "unconfigured"
                 : t->moves & TENANT_MOVED ? "moved"
                 : t->moves & TENANT_HELD  ? "moving"
                 : t->suspended            ? "suspended"
                                           : "active");
        json_i64(b, "unfinished", t->usage.n_live);
        json_i64(b, "queued", (int64_t)fair_queue_n_queued(m->fair_queue, t->id));
        json_i64(b, "held", (int64_t)release_n(m, t->id));
        json_i64(b, "running", (int64_t)fair_queue_n_running(m->fair_queue, t->id));
        json_i64(b, "arrived", t->n_arrived);
        json_i64(b, "settled", t->n_settled);
        throughput_per_s(&t->throughput, clk_now_ms(), m->started_ms, &files, &rows);
        json_f64(b, "files_per_s", files);
        json_f64(b, "rows_per_s", rows);
        json_str(b, "waits_for", why);
        json_end(b, '}');
    }
    json_end(b, ']');
}

static void status(struct batchmgr *m, struct ctl_conn *c, const char *tenant)
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
    add_tenants(m, &b, tenant);
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

static void release(void *arg)
{
    ctl_release(arg);
}

static const struct uploads_ops upload_ops = {on_upload_done, release};

static struct upload_request read_upload(const bson_t *rq)
{
    return (struct upload_request){.tenant = json_get_str(rq, "tenant_id", ""),
                                   .dataset = json_get_str(rq, "dataset", ""),
                                   .name = json_get_str(rq, "name", ""),
                                   .no_name = !json_get_str(rq, "name", NULL),
                                   .app = json_get_str(rq, "app", NULL),
                                   .trace = json_get_str(rq, "trace", NULL),
                                   .size = json_get_i64(rq, "size", -1),
                                   .force = json_get_bool(rq, "force", false)};
}

static int upload_begin(struct batchmgr *m, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    char id[ID_SIZE];
    char *path = NULL;
    if (ctl_data(c))
        return err_set(e, ERR_REFUSED, "one upload at a time on a connection");
    struct upload_request up = read_upload(rq);
    up.no_name = false;
    int r = uploads_begin(m, &up, id, &path, e);
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

static int upload_check(struct batchmgr *m, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    struct upload_request up = read_upload(rq);
    int64_t max_bytes;
    int r = uploads_check(m, &up, &max_bytes, e);
    if (r < 0)
        return r;
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_i64_or_null(&b, "max_bytes", max_bytes);
    json_end(&b, '}');
    ctl_send(c, &b);
    return 1;
}

static void on_handed_in(void *arg, const char *file_id, bool again)
{
    struct ctl_conn *c = arg;
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_str(&b, "file_id", file_id);
    json_bool(&b, "again", again);
    json_end(&b, '}');
    ctl_send(c, &b);
    ctl_release(c);
}

static int take_handed_in(struct batchmgr *m, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    static const struct hand_in_ops ops = {on_handed_in, release};
    const struct hand_in h = {.file = read_upload(rq),
                              .spool = json_get_str(rq, "spool", ""),
                              .key = json_get_str(rq, "idempotency_key", NULL),
                              .account = json_get_str(rq, "account", "nobody")};
    ctl_hold(c);
    int r = hand_in(m, &h, &ops, c, e);
    if (r < 0)
        ctl_release(c);
    return r < 0 ? r : 1;
}

static void on_deleted(void *arg)
{
    ctl_answer(arg, NULL);
    ctl_release(arg);
}

static int delete_file(struct batchmgr *m, struct ctl_conn *c, const bson_t *rq, const char *tenant, struct err *e)
{
    const char *id = json_get_str(rq, "file_id", "");
    int r = filing_check_tenant(m, id, tenant ? tenant : "", e);
    if (r == 0)
        r = filing_delete(m, id, on_deleted, c, release, e);
    if (r == 0)
        ctl_hold(c);
    return r < 0 ? r : 1;
}

static void answer_count(struct ctl_conn *c, int64_t n, bool more)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_i64(&b, "n", n);
    json_bool(&b, "more", more);
    json_end(&b, '}');
    ctl_send(c, &b);
}

/* tenant: whose it has to be; NULL: anybody's. */
static int retry_file(struct batchmgr *m, const char *id, const char *tenant, struct err *e)
{
    struct file *f = file_find(m, id);
    int r = tenant ? filing_check_tenant(m, id, tenant, e) : 0;
    if (r < 0)
        return r;
    if (f && f->reason && !strcmp(f->reason, "exec_error")) {
        parking_lift(m->parking, f->tenant, NULL, false);
        return 0;
    }
    return filing_retry(m, id, e);
}

static int retry(struct batchmgr *m, struct ctl_conn *c, const bson_t *rq, const char *tenant, struct err *e)
{
    const char *id = json_get_str(rq, "file_id", NULL);
    const int limit = ctl_is_guest(c, "gateway") ? RETRIES_AT_ONCE : -1;
    int64_t n = 0, n_found = 0;
    if (id)
        return retry_file(m, id, tenant, e);
    if (!tenant || !conf_valid_id(tenant))
        return err_set(e, ERR_USAGE, "retry needs a file_id or a tenant");
    if (moving_refuse(m, tenant, e) < 0)
        return ERR_REFUSED;
    parking_lift(m->parking, tenant, NULL, false);
    char **ids = ledger_retryable(m->ledger, tenant, limit);
    for (char **at = ids; *at; at++, n_found++) {
        n += filing_retry(m, *at, NULL) == 0;
        free(*at);
    }
    free(ids);
    answer_count(c, n, n_found == limit);
    return 1;
}

static int stop(struct batchmgr *m, const bson_t *rq, const char *tenant, struct err *e)
{
    const char *id = json_get_str(rq, "run_id", "");
    struct run *r = runs_find(m, id);
    if (!r || (tenant && strcmp(tenant, r->tenant) != 0))
        return err_refuse(e, "not_found", 0, "no run %s is going; `mysimbdp runs` shows them", id);
    if (!json_get_bool(rq, "node_is_off", false)) {
        runs_order_stop(r, RUN_STOP_person);
        return 0;
    }
    if (tenant || !r->handle || !run_handle_node_is_off(r->handle))
        return err_refuse(e, "usage", 0, "run %s does not wait for a node that is not heard; `mysimbdp stop %s` ends it", id, id);
    log_info("node_is_off", r->tenant, r->run_id, "said of node %s by a person", r->node ? r->node : "?");
    return 0;
}

static int run_app(struct batchmgr *m, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant_id", ""), *app = json_get_str(rq, "app", "");
    const struct conf_tenant *t = conf_tenant(m->conf, tenant);
    if (!t)
        return err_refuse(e, "not_found", 0, "no tenant \"%s\"; `mysimbdp tenant list` shows them", tenant);
    if (!conf_app(t, app))
        return err_refuse(e, "no_app", 0, "tenant %s has no batch app \"%s\"; see %s", tenant, app, t->file);
    int64_t n = release_app(m, tenant, app);
    log_info("released", tenant, NULL, "%lld files for app %s by command", (long long)n, app);
    answer_count(c, n, false);
    return 1;
}

static int suspend(struct batchmgr *m, const bson_t *rq, bool suspended, struct err *e)
{
    const char *id = json_get_str(rq, "tenant_id", "");
    struct tenant *t = map_get(&m->tenants, id);
    if (!t)
        return err_refuse(e, "not_found", 0, "no tenant \"%s\"; `mysimbdp tenant list` shows them", id);
    int r = suspended ? 0 : moving_refuse(m, id, e);
    if (r == 0)
        r = ledger_set_suspended(m->ledger, id, suspended, e);
    if (r < 0)
        return r;
    t->suspended = suspended || t->moves > TENANT_SUSPENDED;
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

/* The gateway asks for one tenant at a time, which the configuration has. 0, or why not. */
static int check_tenant(struct batchmgr *m, const struct ctl_conn *c, const char *op, const char *tenant, struct err *e)
{
    if (!ctl_is_guest(c, "gateway") || (!tenant && !strcmp(op, "status")))
        return 0;
    if (!tenant)
        return err_set(e, ERR_USAGE, "the request names no tenant");
    return conf_tenant(m->conf, tenant) ? 0 : err_refuse(e, "not_found", 0, "there is no tenant \"%s\"", tenant);
}

static int upload(struct batchmgr *m, struct ctl_conn *c, const char *step, const bson_t *rq, struct err *e)
{
    const char *id = json_get_str(rq, "file_id", "");
    if (!strcmp(step, "begin"))
        return upload_begin(m, c, rq, e);
    if (!strcmp(step, "check"))
        return upload_check(m, c, rq, e);
    if (!strcmp(step, "commit")) {
        int r = uploads_commit(m, id, &upload_ops, c, e);
        if (r == 0) {
            end_upload(c);
            ctl_hold(c);
        }
        return r < 0 ? r : 1;
    }
    if (!strcmp(step, "abort")) {
        uploads_abort(m, id);
        end_upload(c);
        return 0;
    }
    return err_set(e, ERR_USAGE, "unknown op \"upload_%s\"", step);
}

/* What tenants ask for, by the gateway, too. */
static int serve_files(struct batchmgr *m, struct ctl_conn *c, const char *op, const bson_t *rq, const char *tenant, struct err *e)
{
    if (!strncmp(op, "upload_", strlen("upload_")))
        return upload(m, c, op + strlen("upload_"), rq, e);
    if (!strcmp(op, "hand_in"))
        return take_handed_in(m, c, rq, e);
    if (!strcmp(op, "delete"))
        return delete_file(m, c, rq, tenant, e);
    if (!strcmp(op, "retry"))
        return retry(m, c, rq, tenant, e);
    if (!strcmp(op, "stop"))
        return stop(m, rq, tenant, e);
    if (!strcmp(op, "run"))
        return run_app(m, c, rq, e);
    return err_set(e, ERR_USAGE, "unknown op \"%s\"", op);
}

static int serve(void *arg, struct ctl_conn *c, const bson_t *rq, struct err *e)
{
    struct batchmgr *m = arg;
    const char *op = json_get_str(rq, "op", ""), *tenant = json_get_str(rq, "tenant_id", NULL);
    int r = check_tenant(m, c, op, tenant, e);
    if (r < 0)
        return r;
    if (!strcmp(op, "status"))
        return status(m, c, tenant), 1;
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
    if (!strncmp(op, "move_", strlen("move_")))
        return moving_serve(m, c, op, rq, e);
    return serve_files(m, c, op, rq, tenant, e);
}

int control_start(struct batchmgr *m, struct err *e)
{
    static const char *const of_monitor[] = {"status", NULL}, *const of_gateway[] = {"status", "upload_check", "hand_in", "delete",
                                                                                     "retry",  "stop",         "run",     NULL};
    const int64_t base = m->conf->platform.uid_base;
    const struct ctl_guest guests[] = {{"monitor", uid_of_program(&m->home, base, UID_MONITOR), CTL_BY_GROUP, of_monitor},
                                       {"gateway", uid_of_program(&m->home, base, UID_GATEWAY), CTL_BY_SOCKET, of_gateway}};
    AUTO_FREE char *path = home_socket(&m->home, "batchmgr.sock");
    return ctl_new(
        m->base, path,
        &(struct ctl_ops){.serve = serve, .gone = gone, .arg = m, .guests = guests, .n_guests = sizeof guests / sizeof *guests},
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
