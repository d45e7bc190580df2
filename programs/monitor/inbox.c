/* Reports over ZeroMQ: PUSH at the instances, PULL here, one frame a report. Who sends is what the connection says
 * (lib/front/znet.h); a tenant that a report names must be that one. Connections are read in turn; a tenant's reports over four a
 * second for each instance of its agreement are dropped unread, and connections that go on like that are not read for a while. */
#include "monitor.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/tenants.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    MAX_MESSAGE = 4 << 20, /* what is too large for a report is told so; what is more than this ends its connection */
    FLOOD = 1000,          /* reports of a tenant dropped in a second, until it is not read */
    FLOOD_PAUSE_MS = 250,
    TELL_MS = 10000,
    RUN_LOOK_MS = 5000,
    REPORTS_PER_INSTANCE = 4, /* a second */
    SPARE_REPORTS = 50,
    UNMANAGED_INSTANCES = 1000, /* of an app whose instances somebody else starts, and of a batch app, whose runs may be short */
};

/* A connection. */
struct source {
    struct mtenant *tenant; /* NULL: unknown, or the operator */
    bool is_operator;
    unsigned read;     /* monitor.tenants_read when that was looked up */
    char pid[ID_SIZE]; /* names an instance that does not name itself; empty: unknown */
    bool is_run;       /* on a node: its key counts as long as the run goes on */
    int64_t looked_ms;
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

void inbox_read_tenants(struct monitor *m)
{
    struct tenant_state *v;
    struct err e = {0};
    size_t n;
    m->tenants_read++;
    for (size_t i = 0; i < m->conf->n_tenants; i++) {
        const struct conf_tenant *c = &m->conf->tenants[i];
        const struct conf_stream_app *a = c->stream_apps.v;
        struct mtenant *t = tenant_get(m, c->id);
        t->allowed_per_s = SPARE_REPORTS + (c->batch.n ? (double)(REPORTS_PER_INSTANCE * c->concurrency) : 0);
        for (size_t k = 0; k < c->stream_apps.n; k++)
            t->allowed_per_s += (double)(REPORTS_PER_INSTANCE * instances_allowed(&a[k])) / 2;
    }
    if (keeper_tenants(m->keeper, &v, &n, &e) < 0) {
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

/* A uid that is not known may be one that batchmgr has just given to a tenant. */
static struct mtenant *known(struct monitor *m, int64_t uid)
{
    struct mtenant *t = by_uid(m, uid);
    if (!t && znet_may_look(&m->looks)) {
        inbox_read_tenants(m);
        t = by_uid(m, uid);
    }
    return t;
}

static void identify(struct monitor *m, struct source *s, const struct zmtp_conn *c)
{
    int64_t uid = zmtp_uid(c);
    s->read = m->tenants_read;
    s->is_operator = znet_is_platform(uid);
    s->tenant = s->is_operator ? NULL : uid < 0 ? map_get(&m->tenants, zmtp_user(c)) : by_uid(m, uid);
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

/* ---- connections ---- */

static int may_connect(void *arg, int64_t uid)
{
    struct monitor *m = arg;
    char who[64];
    if (znet_is_platform(uid) || known(m, uid))
        return znet_is_platform(uid) ? ZNET_OF_PLATFORM : ZNET_OF_TENANT;
    snprintf(who, sizeof who, "a process of uid %lld is no tenant's", (long long)uid);
    monitor_look_at_clocks(m);
    refuse(m, &m->stranger, REPORT_foreign, "", who);
    return 0;
}

static const char *user_of_key(void *arg, const unsigned char key[CURVE_KEY], int *ret_max)
{
    struct monitor *m = arg;
    return znet_user_of_key(m->conf, m->keeper, key, ret_max);
}

static void on_open(void *arg, struct zmtp_conn *c)
{
    struct source *s = xcalloc(1, sizeof *s);
    struct monitor *m = arg;
    struct run_key k;
    identify(m, s, c);
    s->is_run = znet_is_run(m->conf, m->keeper, c, &k);
    s->looked_ms = clk_now_ms();
    if (s->is_run)
        snprintf(s->pid, sizeof s->pid, "%.*s", (int)sizeof s->pid - 1, k.run_id);
    if (zmtp_pid(c) > 0)
        snprintf(s->pid, sizeof s->pid, "pid:%lld", (long long)zmtp_pid(c));
    zmtp_set_tag(c, s);
}

static void on_close(void *arg, struct zmtp_conn *c)
{
    (void)arg;
    free(zmtp_tag(c));
}

static void on_dropped(struct monitor *m, struct mtenant *t, struct zmtp_conn *c)
{
    if (m->now_ms - t->flood_ms >= 1000) {
        t->flood_ms = m->now_ms;
        t->n_dropped = 0;
    }
    if (++t->n_dropped >= FLOOD)
        zmtp_pause(c, FLOOD_PAUSE_MS);
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

static void take(struct monitor *m, struct source *s, struct zmtp_conn *c, const void *p, size_t n)
{
    static struct report r;
    enum report_refusal why;
    struct err e = {0};
    struct mtenant *t = s->tenant;
    m->n_reports++;
    char who[160];
    if (!t && !s->is_operator) {
        snprintf(who, sizeof who, "%s is no tenant's any more", zmtp_user(c));
        refuse(m, &m->stranger, REPORT_foreign, "", who);
        on_dropped(m, &m->stranger, c);
        return;
    }
    if (t && !may_report(m, t)) {
        refuse(m, t, REPORT_rate, "", "more reports a second than four for each instance that the agreement allows");
        on_dropped(m, t, c);
        return;
    }
    int bad = report_parse(p, n, m->wall_ms, &r, &why, &e);
    if (s->is_operator)
        t = map_get(&m->tenants, r.tenant);
    if (!t) {
        snprintf(who, sizeof who,
                 *r.tenant ? "origin.tenant_id \"%s\" is no tenant"
                           : "origin.tenant_id%s is needed: the sender has no tenant's uid",
                 r.tenant);
        refuse(m, &m->stranger, bad ? why : REPORT_foreign, "", bad ? e.msg : who);
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

/* Its run is over, if it was a run's. */
static bool is_over(struct monitor *m, struct source *s, const struct zmtp_conn *c)
{
    struct run_key k;
    if (!s->is_run || m->now_ms - s->looked_ms < RUN_LOOK_MS)
        return false;
    s->looked_ms = m->now_ms;
    return !znet_is_run(m->conf, m->keeper, c, &k);
}

static void on_message(void *arg, struct zmtp_conn *c, struct zmtp_message *msg)
{
    struct monitor *m = arg;
    struct source *s = zmtp_tag(c);
    monitor_look_at_clocks(m);
    if (is_over(m, s, c)) {
        zmtp_end(c);
        return;
    }
    if (s->read != m->tenants_read)
        identify(m, s, c);
    take(m, s, c, msg->f[0].p, msg->f[0].n);
}

int inbox_start(struct monitor *m, struct err *e)
{
    static const struct zmtp_ops ops = {
        .type = "PULL",
        .peer_types = " PUSH ",
        .may_connect = may_connect,
        .user_of_key = user_of_key,
        .on_open = on_open,
        .on_message = on_message,
        .on_close = on_close,
    };
    m->net = (struct znet){.base = m->base, .home = &m->home, .program = "monitor", .ops = &ops, .arg = m};
    inbox_read_tenants(m);
    int r = znet_start(&m->net, conf_listen(m->conf), m->conf->platform.ports.monitor, e);
    if (r == 0)
        znet_limit(&m->net, MAX_MESSAGE);
    return r;
}

void inbox_stop(struct monitor *m)
{
    znet_stop(&m->net);
    size_t i = 0;
    for (struct mtenant *t; (t = map_next(&m->tenants, &i));) {
        free(t->id);
        free(t->last_refusal);
        free(t);
    }
    map_fini(&m->tenants);
    free(m->stranger.last_refusal);
}
