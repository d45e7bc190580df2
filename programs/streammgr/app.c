#include "app.h"
#include "decide.h"
#include "streammgr.h"
#include "tenant_facts.h"
#include "watcher.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "manager/images.h"
#include "manager/plan.h"

#include <sodium.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sysexits.h>

enum {
    HEALTHY_MS = 10000,
    CONSUMING_MS = 1000, /* of one that takes messages: what lives for a second does not spin */
    MAX_FAILURES = 10,   /* in a row, then it is parked; ends with EX_TEMPFAIL do not park: what was missing comes back */
    PARKED_MS = 300000,  /* then one more instance is tried */
    DEFAULT_STREAM_PCT = 50,
};

const struct conf_stream_app *app_conf(const struct app *a, const struct conf_tenant **ret_tenant)
{
    const struct conf_tenant *t = conf_tenant(a->mgr->conf, a->tenant);
    const struct conf_stream_app *c = t ? conf_stream_app(t, a->name) : NULL;
    *ret_tenant = t;
    return c && *c->exec ? c : NULL;
}

const char *app_obstacle(const struct app *a)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    const struct tenant_facts *f = tenant_facts_of(a->mgr, a->tenant);
    return !c                                   ? "it is not configured"
           : !a->mgr->watcher                   ? "streammgr does not run"
           : a->mgr->draining                   ? "the platform stops"
           : !f                                 ? "the tenant is not known yet"
           : f->suspended                       ? "the tenant is suspended"
           : a->image_waits                     ? "its image is being unpacked"
           : !watcher_endpoint(a->mgr->watcher) ? "the broker is not there"
           : f->database_why                    ? f->database_why
           : !f->database_up                    ? "the database is down"
                                                : NULL;
}

int64_t app_target(struct app *a, const char **ret_why)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    const struct tenant_facts *f = tenant_facts_of(a->mgr, a->tenant);
    const char *obstacle = app_obstacle(a);
    *ret_why = a->stopped ? "stopped by command" : obstacle ? obstacle : a->parked ? "parked" : NULL;
    if (!c || a->mgr->draining || a->stopped || (f && f->suspended))
        return 0;
    if (a->order_expires_wall_ms && clk_wall_ms() >= a->order_expires_wall_ms) {
        a->order_expires_wall_ms = 0; /* the count stays: that the monitor is gone is no reason to change it */
        log_info("order_expired", a->tenant, NULL, "app %s: the last order for %lld instances has expired; they stay", a->name,
                 (long long)a->wanted);
    }
    int64_t min = a->least >= 0 && a->least < c->min_instances ? a->least : c->min_instances;
    int64_t n = a->wanted < min ? min : a->wanted, max = c->max_instances - (int64_t)a->n_asks;
    return n <= max ? n : max > 0 ? max : 0;
}

bool app_has_capacity(const struct app *a, const struct conf_profile *p)
{
    const struct streammgr *m = a->mgr;
    const struct conf *c = m->conf;
    struct sysinfo si = {0};
    sysinfo(&si);
    double cpus = c->platform.capacity.cpus > 0 ? c->platform.capacity.cpus : get_nprocs();
    int64_t memory = c->platform.capacity.memory_bytes > 0 ? c->platform.capacity.memory_bytes : (int64_t)si.totalram * si.mem_unit;
    double share = (c->platform.stream_pct >= 0 ? (double)c->platform.stream_pct : DEFAULT_STREAM_PCT) / 100;
    if (!m->cpus && !m->memory_bytes)
        return share > 0; /* so that a request above the whole share can run, alone */
    if (m->memory_bytes + p->requests.memory_bytes > (int64_t)((double)memory * share))
        return false;
    /* The host's own cores can be shared, so that no app stays without an instance, or below its min_instances. A
     * capacity that somebody configured is a hard limit. */
    const struct conf_tenant *t;
    const struct conf_stream_app *app = app_conf(a, &t);
    bool promised = !a->n || (app && (int64_t)a->n < app->min_instances);
    return m->cpus + p->requests.cpus <= cpus * share + 1e-9 || (promised && c->platform.capacity.cpus < 0);
}

/* ---- failures ---- */

int64_t app_checker_identity(const struct app *a)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    AUTO_FREE char *path = c && *c->checker ? plan_exec(&a->mgr->home, a->tenant, c->checker) : NULL;
    return path ? (int64_t)((uint64_t)plan_exec_identity(path) * 0x9e3779b97f4a7c15u)
                : 0; /* multiplied, so that exec and checker being one file do not cancel each other out */
}

/* Changes when its executable, its checker or its image (whose identity is given) does; 0: it is not configured. */
static int64_t identity_in(const struct app *a, int64_t image_identity)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    AUTO_FREE char *path = c ? plan_exec(&a->mgr->home, a->tenant, c->exec) : NULL;
    return path ? plan_exec_identity(path) ^ image_identity ^ app_checker_identity(a) : 0;
}

static int64_t identity_now(const struct app *a)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    return identity_in(a, c && *c->image ? images_identity(&a->mgr->home, a->tenant, c->image) : 0);
}

static void park(struct app *a, int64_t until_ms, const char *why)
{
    xstr_set(&a->parked, why);
    a->parked_identity = identity_in(a, a->image_identity);
    a->parked_until_ms = until_ms;
    log_error(
        "app_parked", a->tenant, NULL,
        "stream app %s is parked until its executable, its image or the configuration changes, or `mysimbdp app start %s/%s`%s: %s",
        a->name, a->tenant, a->name, until_ms ? "; or for five minutes" : "", why);
}

void app_look_at_image(struct app *a)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    struct image i;
    a->image_waits = false;
    if (!c || !*c->image) {
        xstr_set(&a->image, NULL);
        a->image_identity = 0;
        return;
    }
    if (a->parked)
        return;
    enum image_state state = images_look(a->mgr->images, a->tenant, c->image, &i);
    a->image_waits = state == IMAGE_WAITS;
    if (a->image_waits)
        return;
    a->image_identity = i.identity;
    if (state == IMAGE_FAILED)
        park(a, 0, i.why);
    else
        xstr_set(&a->image, i.root);
}

static bool is_healthy(const struct instance *i)
{
    return clk_now_ms() - i->started_ms >= (i->consumes ? CONSUMING_MS : HEALTHY_MS);
}

static bool has_healthy(const struct app *a, uint64_t generation)
{
    for (const struct instance *i = a->instances; i; i = i->next)
        if (instance_is_scaled(i) && i->generation == generation && is_healthy(i))
            return true;
    return false;
}

void app_take_words(struct run_result *res)
{
    enum { SHOWN = 400 };
    struct app_result r;
    if (res->error || !res->app_result || app_result_parse(res->app_result, strlen(res->app_result), &r, NULL) < 0)
        return;
    res->error = r.error && *r.error ? xstrndup(r.error, SHOWN) : NULL;
    app_result_free(&r);
}

void app_note_failure(struct app *a, const struct instance *i, const struct run_result *res)
{
    int64_t now = clk_now_ms();
    a->restarts++;
    a->failures = is_healthy(i) ? 1 : a->failures + 1;
    free(a->last_end);
    AUTO_FREE char *end = res->limit            ? xasprintf("%s: %s", run_outcome_name(res->outcome), run_limit_name(res->limit))
                          : res->signal > 0     ? xasprintf("signal %d", res->signal)
                          : res->exit_code >= 0 ? xasprintf("exit code %d", res->exit_code)
                                                : NULL;
    a->last_end = end && res->error ? xasprintf("%s: %s", end, res->error)
                                    : xstrdup(end          ? end
                                              : res->error ? res->error
                                                           : run_outcome_name(res->outcome));
    a->not_before_ms = now + restart_delay_ms(a->failures, randombytes_random());
    if (a->parked || res->not_started)
        return;
    if (res->outcome == RUN_exec_error) {
        park(a, 0, a->last_end);
    } else if (a->failures >= MAX_FAILURES && res->exit_code != EX_TEMPFAIL && !has_healthy(a, i->generation)) {
        AUTO_FREE char *why =
            xasprintf("it ended %lld times in a row soon after its start, the last time with %s; `mysimbdp logs %s` "
                      "has its last words",
                      (long long)a->failures, a->last_end, i->run_id);
        park(a, now + PARKED_MS, why);
    }
}

static void unpark(struct app *a)
{
    if (a->parked)
        log_info("app_unparked", a->tenant, NULL, "stream app %s may run again", a->name);
    xstr_set(&a->parked, NULL);
    a->not_before_ms = 0;
}

void app_forgive(struct app *a)
{
    unpark(a);
    if (a->mgr->images)
        images_retry(a->mgr->images, a->tenant);
    a->failures = 0;
}

void app_unpark_if_due(struct app *a)
{
    if (!a->parked)
        return;
    if (identity_now(a) != a->parked_identity)
        app_forgive(a);
    else if (a->parked_until_ms && clk_now_ms() >= a->parked_until_ms)
        unpark(a); /* the count of failures stays, so that the next one parks it again */
}
