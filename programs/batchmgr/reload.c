#include "reload.h"
#include "admit.h"
#include "databases.h"
#include "fair_queue.h"
#include "inspect.h"
#include "intake.h"
#include "ledger.h"
#include "moving.h"
#include "parking.h"
#include "pools.h"
#include "release.h"
#include "staging.h"
#include "state.h"
#include "tenants.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/privs.h"
#include "host/userns.h"
#include "manager/enter.h"
#include "manager/images.h"

#include <string.h>

/* Limits of the profiles that this host cannot enforce, and tenants that it cannot keep apart. */
static int check_host(struct batchmgr *m, const struct conf *c, struct err *e)
{
    const struct conf_profile *p = c->profiles.v;
    AUTO_BUF struct buf missing = {0};
    for (size_t i = 0; i < c->profiles.n; i++) {
        const int64_t limits[] = {p[i].cgroup.cpu_pct, p[i].cgroup.memory_bytes, p[i].cgroup.pids};
        static const char *const keys[] = {"cpu_pct", "memory_bytes", "pids"};
        for (int k = 0; k < 3; k++)
            if (limits[k] >= 0 && !*m->cgroups.base[k])
                buf_addf(&missing, "%sprofile %s: cgroup.%s (%s)", missing.n ? "; " : "", p[i].name, keys[k], m->cgroups.why[k]);
        if (p[i].isolation == ISOLATION_full && !m->isolation.full)
            buf_addf(&missing, "%sprofile %s: isolation = \"full\" (%s)", missing.n ? "; " : "", p[i].name, m->isolation.why);
    }
    if (!privs_is_root() && c->n_tenants > 1) {
        struct userns_host host;
        userns_look(&host);
        buf_addf(&missing,
                 "%sseveral tenants without root and without subordinate ids (%s): they share one uid and are not kept apart",
                 missing.n ? "; " : "", host.why);
    }
    if (!missing.n)
        return 0;
    if (c->platform.allow_missing_limits) {
        log_warn("missing_limits", NULL, NULL, "not enforced on this host: %s", missing.p);
        return 0;
    }
    return err_set(e, ERR_CONFIG,
                   "this host cannot enforce: %s. Run as root on a host with cgroups, remove these limits, or set "
                   "platform.allow_missing_limits = true",
                   missing.p);
}

static void set_apps(struct batchmgr *m, const struct conf_tenant *c)
{
    const struct conf_batch *b = c->batch.v;
    fair_queue_set_tenant(m->fair_queue, c->id, c->weight, c->concurrency);
    for (size_t i = 0; i < c->batch.n; i++) {
        const struct conf_profile *p = conf_profile(m->conf, b[i].profile);
        struct demand one = pools_demand(m, p);
        fair_queue_set_app(m->fair_queue, c->id, b[i].app, b[i].priority, &one);
    }
}

static void collect(void *arg, struct file *f)
{
    struct file ***at = arg;
    *(*at)++ = f;
}

/* Queued files are routed again: their app may have changed. */
static void requeue(struct batchmgr *m)
{
    size_t n = fair_queue_n_queued(m->fair_queue, NULL) + release_n(m, NULL);
    AUTO_FREE struct file **v = xcalloc(n, sizeof *v);
    struct file **end = v;
    release_drain(m, NULL, collect, &end);
    fair_queue_drain(m->fair_queue, collect, &end);
    for (size_t i = 0; i < n; i++)
        admit_queue(m, v[i]);
}

static int set_tenant(struct batchmgr *m, const struct conf_tenant *c, struct err *e)
{
    struct tenant *t = tenant_get(m, c->id);
    int64_t uid;
    t->configured = true;
    t->purged = false;
    ledger_take_up(m->ledger, c->id);
    t->suspended = ledger_is_suspended(m->ledger, c->id);
    moving_look(m, t);
    int r = ledger_tenant_uid(m->ledger, c->id, &(struct uid_block){m->conf->platform.uid_base, m->conf->platform.n_uids}, &uid, e);
    if (r == 0 && privs_is_root())
        t->uid = t->gid = uid;
    if (r == 0)
        r = staging_add_tenant(m, t, e);
    databases_add_tenant(m->databases, t, c);
    set_apps(m, c);
    return r;
}

int reload_apply(struct batchmgr *m, struct conf *next, struct err *e)
{
    int r = check_host(m, next, e);
    if (r == 0)
        r = databases_find(m->databases, next, e);
    if (r < 0) {
        conf_free(next);
        return r;
    }
    struct conf *old = m->conf;
    size_t i = 0;
    m->conf = next;
    pools_set(m);
    for (struct tenant *t; (t = map_next(&m->tenants, &i));)
        t->configured = false;
    for (i = 0; r == 0 && i < next->n_tenants; i++)
        r = set_tenant(m, &next->tenants[i], e);
    parking_lift(m->parking, NULL, NULL, false);
    inspect_kick(m);
    requeue(m);
    databases_begin(m->databases);
    conf_free(old);
    return r;
}

int reload(struct batchmgr *m, struct err *e)
{
    struct conf *next = NULL;
    int r = conf_load(m->home.path, &next, e);
    if (r == 0)
        r = spawner_tell(m->spawner, &(struct warden_request){.op = WARDEN_RELOAD}, NULL, NULL, 0);
    if (r == 0)
        r = reload_apply(m, next, e);
    if (r < 0) {
        log_error("reload", NULL, NULL, "the configuration in force stays: %s", e->msg);
        return r;
    }
    log_info("reload", NULL, NULL, "%zu tenants, %zu profiles", m->conf->n_tenants, m->conf->profiles.n);
    images_sweep(m->images);
    intake_rescan(m);
    if (m->supervised)
        outside_leave(m->outside, &m->home, m->conf, m->base);
    return 0;
}
