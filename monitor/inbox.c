/* Reports over ZeroMQ: PUSH at the instances, PULL here, one frame a report. Who sends is what the connection says (common/znet.h);
 * a tenant that a report names must be that one. ZeroMQ takes turns among connections; a tenant's reports over four a second for
 * each instance of its agreement are dropped unread, so that none costs more than its share. */
#include "monitor.h"

#include "common/clk.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/tenant.h"
#include "common/zev.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

enum {
    TURN = 512,
    RECEIVE_QUEUE = 1000,  /* messages of a connection in memory; the rest waits at the sender. 64 halve the rate */
    MAX_MESSAGE = 4 << 20, /* what is too large for a report is told so; what is more than this ends its connection */
    MAX_SOURCES = 20000,
    READ_AGAIN_MS = 200,
    TELL_MS = 10000,
    REPORTS_PER_INSTANCE = 4, /* a second */
    SPARE_REPORTS = 50,
    UNMANAGED_INSTANCES = 1000, /* of an app whose instances somebody else starts, and of a batch app, whose runs may be short */
};

/* A connection's other end. */
struct source {
    struct mtenant *tenant; /* NULL: unknown, or the operator */
    bool is_operator;
    int64_t uid;  /* -1: tcp */
    char pid[24]; /* names an instance that does not name itself; empty: unknown */
};

static struct mtenant *tenant_get(struct monitor *m, const char *id)
{
    struct mtenant *t = map_get(&m->tenants, id);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        *t = (struct mtenant){.id = xstrdup(id), .uid = -1};
        map_put(&m->tenants, id, t);
    }
    return t;
}

static size_t instances_allowed(const struct conf_stream_app *a)
{
    return *a->exec ? (size_t)a->max_instances * 2 + 8 : UNMANAGED_INSTANCES; /* twice: old ones end while new ones begin */
}

static void forget_sources(struct monitor *m)
{
    size_t i = 0;
    for (struct source *s; (s = map_next(&m->sources, &i));)
        free(s);
    map_fini(&m->sources);
}

void inbox_read_tenants(struct monitor *m)
{
    struct tenant_state *v;
    struct err e = {0};
    size_t n;
    m->tenants_read_ms = clk_now_ms();
    forget_sources(m);
    for (size_t i = 0; i < m->conf->n_tenants; i++) {
        const struct conf_tenant *c = &m->conf->tenants[i];
        const struct conf_stream_app *a = c->stream_apps.v;
        struct mtenant *t = tenant_get(m, c->id);
        t->allowed_per_s = SPARE_REPORTS + (c->batch.n ? (double)(REPORTS_PER_INSTANCE * c->concurrency) : 0);
        for (size_t k = 0; k < c->stream_apps.n; k++)
            t->allowed_per_s += (double)(REPORTS_PER_INSTANCE * instances_allowed(&a[k]) / 2);
    }
    if (tenant_states(&m->home, &v, &n, &e) < 0) {
        log_warn("tenants", NULL, NULL, "%s", e.msg);
        return;
    }
    for (size_t i = 0; i < n; i++)
        tenant_get(m, v[i].id)->uid = v[i].removed ? -1 : v[i].uid;
    tenant_states_free(v, n);
}

static struct mtenant *by_uid(struct monitor *m, int64_t uid)
{
    size_t i = 0;
    for (struct mtenant *t; (t = map_next(&m->tenants, &i));)
        if (t->uid >= 0 && t->uid == uid)
            return t;
    return NULL;
}

static struct source *source_of(struct monitor *m, const char *peer, bool is_tcp)
{
    struct source *s = map_get(&m->sources, peer);
    if (s)
        return s;
    int64_t uid = is_tcp ? -1 : znet_peer_uid(peer), pid = is_tcp ? -1 : znet_peer_pid(peer);
    struct mtenant *t = is_tcp ? map_get(&m->tenants, peer) : by_uid(m, uid);
    if (!t && uid > 0 && clk_now_ms() - m->tenants_read_ms > READ_AGAIN_MS) { /* batchmgr may have given it one meanwhile */
        inbox_read_tenants(m);
        t = by_uid(m, uid);
    }
    if (m->sources.n >= MAX_SOURCES)
        forget_sources(m);
    s = xcalloc(1, sizeof *s);
    s->is_operator = uid >= 0 && (uid == (int64_t)geteuid() || uid == 0);
    s->tenant = s->is_operator ? NULL : t;
    if (pid > 0)
        snprintf(s->pid, sizeof s->pid, "pid:%lld", (long long)pid);
    s->uid = uid;
    map_put(&m->sources, peer, s);
    return s;
}

/* ---- refusing ---- */

static void refuse(struct monitor *m, struct mtenant *t, enum report_refusal why, const char *app, const char *detail)
{
    m->n_refused++;
    t->n_refused[why]++;
    if (t->told_ms[why] && m->now_ms - t->told_ms[why] < TELL_MS)
        return;
    xstr_set(&t->last_refusal, detail);
    log_warn("report_refused", t->id, NULL, "%s: %s%s%s%s (%llu of these until now)", report_refusal_name(why), *app ? "app " : "",
             app, *app ? ": " : "", detail, (unsigned long long)t->n_refused[why]);
    t->told_ms[why] = m->now_ms;
}

static bool may_report(struct monitor *m, struct mtenant *t)
{
    double s = (double)(m->now_ms - t->filled_ms) / 1000;
    t->filled_ms = m->now_ms;
    t->tokens = fmin(t->allowed_per_s, t->tokens + s * t->allowed_per_s);
    if (t->tokens < 1)
        return false;
    t->tokens--;
    return true;
}

/* ---- taking ---- */

static void take(struct monitor *m, const struct source *s, const void *p, size_t n)
{
    static struct report r;
    enum report_refusal why;
    struct err e = {0};
    struct mtenant *t = s->tenant;
    m->n_reports++;
    if (t && !may_report(m, t)) {
        refuse(m, t, REPORT_rate, "", "more reports a second than four for each instance that the agreement allows");
        return;
    }
    int bad = report_parse(p, n, m->wall_ms, &r, &why, &e);
    if (s->is_operator)
        t = map_get(&m->tenants, r.tenant);
    if (!t) {
        char who[160];
        if (s->is_operator)
            snprintf(who, sizeof who,
                     *r.tenant ? "origin.tenant_id \"%s\" is no tenant"
                               : "origin.tenant_id%s is needed: the sender has no tenant's uid",
                     r.tenant);
        else
            snprintf(who, sizeof who, "a process of uid %lld is no tenant's", (long long)s->uid);
        bool is_named = bad && s->is_operator;
        refuse(m, &m->stranger, is_named ? why : REPORT_foreign, "", is_named ? e.msg : who);
        return;
    }
    if (bad) {
        refuse(m, t, why, r.app, e.msg);
        return;
    }
    if (*r.tenant && strcmp(r.tenant, t->id) != 0) {
        refuse(m, t, REPORT_foreign, r.app, "origin.tenant_id is another tenant's");
        return;
    }
    struct app *a = monitor_app(m, t->id, r.app);
    struct batch_app *b = a ? NULL : monitor_batch_app(m, t->id, r.app);
    if (!a && !b) {
        refuse(m, t, REPORT_unknown_app, r.app, "origin.streaming_app_id is none of the tenant's apps");
        return;
    }
    const char *id = *r.instance ? r.instance : *s->pid ? s->pid : "tcp";
    size_t allowed = a ? instances_allowed(a->conf) : UNMANAGED_INSTANCES;
    if (windows_take(a ? &a->window : &b->window, &r, id, allowed, m->now_ms, m->wall_ms, &why, &e) < 0)
        refuse(m, t, why, r.app, e.msg);
    else
        t->n_taken++;
}

static bool read_one(struct inbox *in)
{
    zmq_msg_t msg;
    int frames = 0;
    bool more = true;
    while (more) {
        zmq_msg_init(&msg);
        if (zmq_msg_recv(&msg, in->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&msg);
            return frames > 0;
        }
        more = zmq_msg_more(&msg);
        const char *peer = frames++ ? NULL : znet_peer(&msg, in->is_tcp);
        if (peer)
            take(in->m, source_of(in->m, peer, in->is_tcp), zmq_msg_data(&msg), zmq_msg_size(&msg));
        zmq_msg_close(&msg);
    }
    return true;
}

static void on_readable(void *arg)
{
    struct inbox *in = arg;
    monitor_look_at_clocks(in->m);
    for (int i = 0; i < TURN && read_one(in); i++) {
    }
}

static int open_inbox(struct monitor *m, struct inbox *in, bool is_tcp, struct err *e)
{
    int receive = RECEIVE_QUEUE;
    int64_t most = MAX_MESSAGE;
    in->m = m;
    in->is_tcp = is_tcp;
    int r = znet_socket(&m->net, ZMQ_PULL, is_tcp, &in->socket, e);
    if (r < 0)
        return r;
    zmq_setsockopt(in->socket, ZMQ_RCVHWM, &receive, sizeof receive);
    zmq_setsockopt(in->socket, ZMQ_MAXMSGSIZE, &most, sizeof most);
    r = is_tcp ? znet_bind_tcp(&m->net, in->socket, m->conf->platform.ports.monitor, &in->endpoint, e)
               : znet_bind_ipc(&m->net, in->socket, &in->endpoint, e);
    return r < 0 ? r : zev_new(m->base, in->socket, on_readable, in, &in->zev, e);
}

int inbox_start(struct monitor *m, struct err *e)
{
    m->net = (struct znet){.base = m->base, .home = &m->home, .conf = &m->conf, .program = "monitor"};
    inbox_read_tenants(m);
    int r = znet_start(&m->net, e);
    if (r == 0)
        r = open_inbox(m, &m->ipc, false, e);
    if (r == 0 && *m->conf->platform.listen)
        r = open_inbox(m, &m->tcp, true, e);
    return r;
}

void inbox_stop(struct monitor *m)
{
    struct inbox *v[] = {&m->ipc, &m->tcp};
    for (size_t i = 0; i < 2; i++) {
        zev_free(v[i]->zev);
        if (v[i]->socket)
            zmq_close(v[i]->socket);
        free(v[i]->endpoint);
    }
    znet_stop(&m->net);
    forget_sources(m);
    size_t i = 0;
    for (struct mtenant *t; (t = map_next(&m->tenants, &i));) {
        free(t->id);
        free(t->last_refusal);
        free(t);
    }
    map_fini(&m->tenants);
    free(m->stranger.last_refusal);
}
