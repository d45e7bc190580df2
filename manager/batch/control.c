/* Requests, one JSON object a line: {"op":...}. Every answer is one line with "ok":true, or "ok":false and "error".
 *   status
 *   upload_begin {tenant,dataset,name,size,app?,force?} -> {file_id,path}; upload_commit {file_id}; upload_abort {file_id}
 *   retry {file_id} or {tenant} -> {n}
 *   stop {run_id}
 *   run {tenant,app} -> {n}: releases the files that wait for the app's trigger or for their group
 *   reload; suspend {tenant}; resume {tenant}
 *   purge {tenant}                         answered when everything of the tenant is gone
 *   drain                                  answered when no run is left; the program then ends
 * An upload whose client goes away before upload_commit is aborted. */
#include "control.h"
#include "filing.h"
#include "inspect.h"
#include "intake.h"
#include "purge.h"
#include "release.h"
#include "runs.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { MAX_LINE = 1 << 20, ACCEPT_PAUSE_MS = 100 };

struct conn {
    struct batchmgr *m;
    struct bufferevent *bev;
    char upload[ID_SIZE]; /* open one */
    int waiting;          /* answers that are still to come */
    bool gone;
    struct conn *next;
};

static struct conn *drain_waiters;

static void send_line(struct conn *c, struct buf *b)
{
    buf_adds(b, "\n");
    if (!c->gone)
        bufferevent_write(c->bev, b->p, b->n);
}

static void answer(struct conn *c, const struct err *e)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", !e);
    if (e)
        json_str(&b, "error", e->msg);
    json_end(&b, '}');
    send_line(c, &b);
}

static void conn_free(struct conn *c)
{
    for (struct conn **at = &drain_waiters; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    if (*c->upload)
        intake_upload_abort(c->m, c->upload);
    c->upload[0] = 0;
    c->gone = true;
    if (c->bev)
        bufferevent_free(c->bev);
    c->bev = NULL;
    if (c->m->reserve_fd < 0)
        c->m->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (!c->waiting)
        free(c);
}

static void add_tenants(struct batchmgr *m, struct buf *b)
{
    size_t i = 0;
    json_begin(b, "tenants", '[');
    for (struct tenant *t; (t = map_next(&m->tenants, &i));) {
        const char *why = sched_why_waiting(m->sched, t->id);
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
        json_i64(b, "queued", (int64_t)sched_n_queued(m->sched, t->id));
        json_i64(b, "held", (int64_t)release_n(m, t->id));
        json_i64(b, "running", (int64_t)sched_n_running(m->sched, t->id));
        json_str(b, "waits_for", why);
        json_end(b, '}');
    }
    json_end(b, ']');
}

static void status(struct conn *c)
{
    struct batchmgr *m = c->m;
    AUTO_BUF struct buf b = {0};
    const char *why;
    char db_why[256] = "";
    bool stalled = ledger_stalled(m->ledger, &why);
    bool up = m->n_healths && health_is_up(m->healths[0], db_why, sizeof db_why);
    size_t i = 0;
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_i64(&b, "pid", getpid());
    json_time(&b, "started_at", m->started_wall_ms);
    json_str(&b, "intake", m->draining ? "draining" : m->disk_low ? "paused: disk low" : stalled ? "paused: ledger" : "open");
    json_str(&b, "database", up ? "up" : "down");
    json_str(&b, "database_error", up ? NULL : db_why);
    json_i64(&b, "unfinished", (int64_t)m->files.n);
    json_i64(&b, "inspecting", (int64_t)inspect_n_queued(m));
    json_i64(&b, "queued", (int64_t)sched_n_queued(m->sched, NULL));
    json_i64(&b, "held", (int64_t)release_n(m, NULL));
    json_i64(&b, "running", (int64_t)m->runs.n);
    json_begin(&b, "parked_apps", '[');
    for (struct parked *p; (p = map_next(&m->parked, &i));) {
        AUTO_FREE char *name = xasprintf("%s/%s", p->tenant, p->app);
        json_str(&b, NULL, name);
    }
    json_end(&b, ']');
    add_tenants(m, &b);
    json_end(&b, '}');
    send_line(c, &b);
}

static void on_upload_done(void *arg, const char *file_id)
{
    struct conn *c = arg;
    AUTO_BUF struct buf b = {0};
    c->waiting--;
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_str(&b, "file_id", file_id);
    json_end(&b, '}');
    send_line(c, &b);
    if (c->gone && !c->waiting)
        free(c);
}

static int upload_begin(struct conn *c, const bson_t *rq, struct err *e)
{
    char id[ID_SIZE];
    char *path = NULL;
    if (*c->upload)
        return err_set(e, ERR_REFUSED, "one upload at a time on a connection");
    int r = intake_upload_begin(c->m, json_get_str(rq, "tenant", ""), json_get_str(rq, "dataset", ""), json_get_str(rq, "name", ""),
                                json_get_i64(rq, "size", 0), json_get_str(rq, "app", NULL), json_get_bool(rq, "force", false), id,
                                &path, e);
    if (r < 0)
        return r;
    memcpy(c->upload, id, ID_SIZE);
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_str(&b, "file_id", id);
    json_str(&b, "path", path);
    json_end(&b, '}');
    send_line(c, &b);
    free(path);
    return 1;
}

static void answer_count(struct conn *c, int64_t n)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_i64(&b, "n", n);
    json_end(&b, '}');
    send_line(c, &b);
}

static int retry(struct conn *c, const bson_t *rq, struct err *e)
{
    const char *id = json_get_str(rq, "file_id", NULL), *tenant = json_get_str(rq, "tenant", NULL);
    int64_t n = 0;
    if (id) {
        struct file *f = map_get(&c->m->files, id);
        if (f && f->reason && !strcmp(f->reason, "exec_error")) {
            runs_unpark(c->m, f->tenant, NULL, false);
            return 0;
        }
        return filing_retry(c->m, id, e);
    }
    if (!tenant || !conf_valid_id(tenant))
        return err_set(e, ERR_USAGE, "retry needs a file_id or a tenant");
    runs_unpark(c->m, tenant, NULL, false);
    char **ids = ledger_retryable(c->m->ledger, tenant);
    for (char **at = ids; *at; at++) {
        n += filing_retry(c->m, *at, NULL) == 0;
        free(*at);
    }
    free(ids);
    answer_count(c, n);
    return 1;
}

static int stop(struct conn *c, const bson_t *rq, struct err *e)
{
    const char *id = json_get_str(rq, "run_id", "");
    struct run *r = map_get(&c->m->runs, id);
    if (!r)
        return err_set(e, ERR_REFUSED, "no run %s is going; `mysimbdp runs` shows them", id);
    runs_order_stop(c->m, r, "stopped");
    return 0;
}

static int run_app(struct conn *c, const bson_t *rq, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant", ""), *app = json_get_str(rq, "app", "");
    const struct conf_tenant *t = conf_tenant(c->m->conf, tenant);
    if (!t)
        return err_set(e, ERR_REFUSED, "no tenant \"%s\"; `mysimbdp tenant list` shows them", tenant);
    if (!conf_app(t, app))
        return err_set(e, ERR_REFUSED, "tenant %s has no batch app \"%s\"; see %s", tenant, app, t->file);
    int64_t n = release_app(c->m, tenant, app);
    log_info("released", tenant, NULL, "%lld files for app %s by command", (long long)n, app);
    answer_count(c, n);
    return 1;
}

static int suspend(struct conn *c, const bson_t *rq, bool suspended, struct err *e)
{
    const char *id = json_get_str(rq, "tenant", "");
    struct tenant *t = map_get(&c->m->tenants, id);
    if (!t)
        return err_set(e, ERR_REFUSED, "no tenant \"%s\"; `mysimbdp tenant list` shows them", id);
    int r = ledger_set_suspended(c->m->ledger, id, suspended, e);
    if (r < 0)
        return r;
    t->suspended = suspended;
    char why[8];
    bool up = t->health && health_is_up(t->health, why, sizeof why);
    sched_block_tenant(c->m->sched, id, !tenant_accepts(t) || !up);
    log_info(suspended ? "suspended" : "resumed", id, NULL, "by command");
    intake_rescan(c->m);
    batchmgr_kick(c->m);
    return 0;
}

static void on_purged(void *arg)
{
    struct conn *c = arg;
    c->waiting--;
    answer(c, NULL);
    if (c->gone && !c->waiting)
        free(c);
}

static int purge(struct conn *c, const bson_t *rq, struct err *e)
{
    int r = purge_begin(c->m, json_get_str(rq, "tenant", ""), on_purged, c, e);
    if (r == 0)
        c->waiting++;
    return r < 0 ? r : 1;
}

static void drain(struct conn *c)
{
    struct batchmgr *m = c->m;
    size_t i = 0;
    c->next = drain_waiters;
    drain_waiters = c;
    m->draining = true;
    log_info("drain", NULL, NULL, "admission has stopped; %zu runs are asked to end", m->runs.n);
    for (struct run *r; (r = map_next(&m->runs, &i));)
        runs_order_stop(m, r, "drain");
    batchmgr_check_quit(m);
}

/* 0: answer ok; 1: answered, or will be; negative: answer the error. */
static int serve(struct conn *c, const bson_t *rq, struct err *e)
{
    const char *op = json_get_str(rq, "op", "");
    if (!strcmp(op, "status"))
        return status(c), 1;
    if (!strcmp(op, "upload_begin"))
        return upload_begin(c, rq, e);
    if (!strcmp(op, "upload_commit")) {
        const char *id = json_get_str(rq, "file_id", "");
        int r = intake_upload_commit(c->m, id, on_upload_done, c, e);
        if (r == 0) {
            c->upload[0] = 0;
            c->waiting++;
        }
        return r < 0 ? r : 1;
    }
    if (!strcmp(op, "upload_abort")) {
        intake_upload_abort(c->m, json_get_str(rq, "file_id", ""));
        c->upload[0] = 0;
        return 0;
    }
    if (!strcmp(op, "retry"))
        return retry(c, rq, e);
    if (!strcmp(op, "stop"))
        return stop(c, rq, e);
    if (!strcmp(op, "run"))
        return run_app(c, rq, e);
    if (!strcmp(op, "reload"))
        return batchmgr_reload(c->m, e);
    if (!strcmp(op, "suspend") || !strcmp(op, "resume"))
        return suspend(c, rq, op[0] == 's', e);
    if (!strcmp(op, "purge"))
        return purge(c, rq, e);
    if (!strcmp(op, "drain"))
        return drain(c), 1;
    return err_set(e, ERR_USAGE, "unknown op \"%s\"", op);
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct conn *c = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    for (char *line; (line = evbuffer_readln(in, NULL, EVBUFFER_EOL_LF));) {
        struct err e = {0};
        bson_t *rq = json_parse(line, strlen(line), &e);
        int r = rq ? serve(c, rq, &e) : ERR_FORMAT;
        if (r <= 0)
            answer(c, r < 0 ? &e : NULL);
        if (rq)
            bson_destroy(rq);
        free(line);
    }
    if (evbuffer_get_length(in) > MAX_LINE)
        conn_free(c);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        conn_free(arg);
}

static void on_accept_again(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    (void)fd;
    (void)what;
    event_add(m->control_ev, NULL);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    (void)what;
    int s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (s < 0 && (errno == EMFILE || errno == ENFILE) && m->reserve_fd >= 0) {
        close(fd_take(&m->reserve_fd)); /* kept for this: to answer also when descriptors have run out */
        s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    }
    if (s < 0) { /* not again at once: whoever waits there would make us spin */
        struct timeval tv = {0, ACCEPT_PAUSE_MS * 1000};
        event_del(m->control_ev);
        event_add(m->accept_ev, &tv);
        return;
    }
    struct conn *c = xcalloc(1, sizeof *c);
    c->m = m;
    c->bev = bufferevent_socket_new(m->base, s, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

int control_start(struct batchmgr *m, struct err *e)
{
    AUTO_FREE char *path = home_socket(&m->home, "batchmgr.sock");
    m->control_fd = fd_unix_listen(path, 0600);
    if (m->control_fd < 0)
        return err_sys(e, m->control_fd, "cannot listen on %s", path);
    m->control_ev = event_new(m->base, m->control_fd, EV_READ | EV_PERSIST, on_accept, m);
    event_add(m->control_ev, NULL);
    m->accept_ev = event_new(m->base, -1, 0, on_accept_again, m);
    m->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return 0;
}

void control_stop(struct batchmgr *m)
{
    AUTO_FREE char *path = home_socket(&m->home, "batchmgr.sock");
    if (m->control_ev)
        event_free(m->control_ev);
    if (m->accept_ev)
        event_free(m->accept_ev);
    if (m->reserve_fd >= 0)
        close(m->reserve_fd);
    if (m->control_fd >= 0) {
        close(fd_take(&m->control_fd));
        unlink(path);
    }
}

void control_drained(struct batchmgr *m)
{
    (void)m;
    while (drain_waiters) {
        struct conn *c = drain_waiters;
        drain_waiters = c->next;
        answer(c, NULL);
        bufferevent_flush(c->bev, EV_WRITE, BEV_FLUSH);
    }
}
