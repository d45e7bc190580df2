#include "app.h"
#include "restart.h"
#include "streammgr.h"
#include "tenant_facts.h"
#include "watcher.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "manager/images.h"
#include "manager/plan.h"

#include <string.h>
#include <sys/sysinfo.h>

enum { DEFAULT_STREAM_PCT = 50 };

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

/* What is there for runs of that place, and whether somebody wrote the number of cores down. */
static struct conf_capacity capacity_of(const struct conf *c, enum conf_launcher l, bool *ret_hard)
{
    struct conf_capacity all = c->platform.capacity;
    struct sysinfo si = {0};
    *ret_hard = all.cpus > 0 || (l == LAUNCHER_slurm && c->platform.slurm.capacity.cpus > 0);
    if (l == LAUNCHER_slurm)
        return conf_slurm_capacity(c);
    sysinfo(&si);
    return (struct conf_capacity){all.cpus > 0 ? all.cpus : get_nprocs(),
                                  all.memory_bytes > 0 ? all.memory_bytes : (int64_t)si.totalram * si.mem_unit};
}

bool app_has_capacity(const struct app *a, const struct conf_profile *p)
{
    const struct conf *c = a->mgr->conf;
    enum conf_launcher l = conf_launcher_of(c, p);
    bool hard;
    struct conf_capacity whole = capacity_of(c, l, &hard);
    double cpus = a->mgr->places[l].cpus;
    int64_t memory = a->mgr->places[l].memory_bytes;
    double share = (c->platform.stream_pct >= 0 ? (double)c->platform.stream_pct : DEFAULT_STREAM_PCT) / 100;
    if (cpus <= 0 && memory <= 0)
        return share > 0; /* so that a request above the whole share can run, alone */
    if (memory + p->requests.memory_bytes > (int64_t)((double)whole.memory_bytes * share))
        return false;
    /* The host's own cores can be shared, so that no app stays without an instance, or below its min_instances. A
     * capacity that somebody configured is a hard limit. */
    const struct conf_tenant *t;
    const struct conf_stream_app *app = app_conf(a, &t);
    bool promised = !a->n || (app && (int64_t)a->n < app->min_instances);
    return cpus + p->requests.cpus <= whole.cpus * share + 1e-9 || (promised && !hard);
}

int64_t app_checker_identity(const struct app *a)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    AUTO_FREE char *path = c && *c->checker ? plan_active_exec(&a->mgr->home, a->tenant, a->name, c->checker) : NULL;
    return path ? (int64_t)((uint64_t)plan_exec_identity(path) * 0x9e3779b97f4a7c15u)
                : 0; /* multiplied, so that exec and checker being one file do not cancel each other out */
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
        restart_park(a, 0, i.why);
    else
        xstr_set(&a->image, i.root);
}
