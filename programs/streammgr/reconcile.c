#include "reconcile.h"
#include "restart.h"
#include "app.h"
#include "rolling_update.h"
#include "drain.h"
#include "drain_order.h"
#include "instance.h"
#include "instance_spec.h"
#include "manual_instances.h"
#include "streammgr.h"
#include "watcher.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "manager/spawner.h"

enum {
    FRESH_MS = 5,       /* what the broker said of consumers is trusted for so long */
    UNREADY_MS = 30000, /* a new instance that is not ready by then gets a line in the log */
};

/* It has been ready for a moment, so that an old one may go. */
static bool has_proved_itself(struct instance *i)
{
    struct app *a = i->app;
    int64_t age = clk_now_ms() - i->started_ms;
    bool ready = instance_is_ready(i);
    if (!ready && age >= UNREADY_MS && clk_now_ms() - a->told_unready_ms >= UNREADY_MS) {
        a->told_unready_ms = clk_now_ms();
        log_warn("not_ready", a->tenant, i->run_id, "app %s: a new instance does not consume; the old ones stay until it does",
                 a->name);
    }
    return ready && age >= INSTANCE_READY_MS;
}

static struct app_view view_of(struct app *a, int64_t target, bool may_start, uint64_t generation)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    struct app_view v = {.target = target, .max = c ? c->max_instances : 0, .may_start = may_start};
    for (struct instance *i = a->instances; i; i = i->next) {
        if (!instance_is_scaled(i))
            continue;
        if (i->generation != generation)
            ++*(instance_is_ready(i) ? &v.n_old_ready : &v.n_old_unready);
        else
            ++*(has_proved_itself(i) ? &v.n_new_ready : &v.n_new_unready);
    }
    return v;
}

/* Tells the one to go that can be spared best, if there is one. */
static void drain_one(struct app *a, uint64_t generation, bool only_old, const char *why)
{
    struct drain_candidate *v = xcalloc(a->n + 1, sizeof *v);
    struct instance **is = xcalloc(a->n + 1, sizeof *is);
    size_t n = 0;
    for (struct instance *i = a->instances; i; i = i->next)
        if (instance_is_scaled(i)) {
            is[n] = i;
            v[n++] = (struct drain_candidate){i->generation != generation, instance_is_ready(i), i->leased};
        }
    int64_t k = drain_first(v, n, only_old);
    if (k >= 0)
        drain_instance(is[k], DRAIN_GENTLY, why);
    free(v);
    free(is);
}

static bool is_draining(const struct app *a)
{
    for (const struct instance *i = a->instances; i; i = i->next)
        if (i->stop && !i->unheard)
            return true;
    return false;
}

static enum conf_launcher place_of(const struct streammgr *m, const struct conf_stream_app *c)
{
    return conf_launcher_of(m->conf, conf_profile(m->conf, c->profile));
}

/* Makes room for the first instance of an app, which is configured: one of another app is told to go, unless one is on its way out
 * already. */
static void make_room(struct app *needy)
{
    struct streammgr *m = needy->mgr;
    struct drain_giver *v = xcalloc(m->apps.n, sizeof *v);
    struct app **apps = xcalloc(m->apps.n, sizeof *apps);
    const struct conf_tenant *t;
    enum conf_launcher place = place_of(m, app_conf(needy, &t));
    size_t at = 0, n = 0;
    bool soon = false;
    for (struct app *a; (a = map_next(&m->apps, &at));) {
        const struct conf_stream_app *c = app_conf(a, &t);
        soon |= is_draining(a) && a->instances->launcher == (int)place;
        if (!c || place_of(m, c) != place)
            continue;
        apps[n] = a;
        v[n++] = (struct drain_giver){(int64_t)a->n, c->min_instances};
    }
    int64_t rich = soon ? DRAIN_NOBODY : drain_richest(v, n);
    if (rich >= 0) {
        AUTO_FREE char *why = xasprintf("it makes room for the first instance of %s/%s", needy->tenant, needy->name);
        drain_one(apps[rich], instance_spec_generation(apps[rich]), false, why);
    }
    free(v);
    free(apps);
}

static bool needs_first(struct app *a)
{
    const char *why;
    return !a->n && app_target(a, &why) > 0 && !why;
}

/* False: not now; what is missing has the app looked at again. */
static bool start_one(struct app *a)
{
    struct err e = {0};
    struct streammgr *m = a->mgr;
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    int64_t wait = a->not_before_ms - clk_now_ms();
    if (wait > 0) {
        streammgr_wake_in(m, wait);
        return false;
    }
    bool *starving = &m->places[place_of(m, c)].starving;
    if (*starving && a->n)
        return false;
    if (!app_has_capacity(a, conf_profile(m->conf, c->profile))) {
        if (!a->n) {
            *starving = true;
            make_room(a);
        }
        return false;
    }
    if (instance_start(a, NULL, &e) == 0)
        return spawner_is_ready(m->spawner);
    a->not_before_ms = clk_now_ms() + 1000;
    return false;
}

void reconcile_app(struct app *a)
{
    struct streammgr *m = a->mgr;
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    const char *why;
    app_look_at_image(a);
    manual_instances_reconcile(a);
    int64_t target = app_target(a, &why);
    bool may_start = c && !why && spawner_is_ready(m->spawner), go_on = true;
    uint64_t generation = instance_spec_generation(a);
    while (go_on) {
        struct app_view v = view_of(a, target, may_start, generation);
        switch (rolling_update_step(&v)) {
        case ROLLING_start:
            go_on = start_one(a);
            break;
        case ROLLING_drain:
            /* Some go and some stay: the broker is asked first who holds what, and its answer has this called again. */
            if (target && clk_now_ms() - m->seen_ms > FRESH_MS && watcher_ask(m->watcher))
                return;
            drain_one(a, generation, false, target ? "fewer are wanted" : why ? why : "none is wanted");
            break;
        case ROLLING_drain_old:
            drain_one(a, generation, true, "replaced: its configuration or executable changed");
            break;
        case ROLLING_nothing:
            go_on = false;
        }
        if (v.n_old_ready + v.n_old_unready && may_start)
            streammgr_wake_in(m, INSTANCE_READY_MS / 4);
    }
}

void reconcile_all(struct streammgr *m)
{
    for (size_t k = 0; k < m->conf->n_tenants; k++) {
        const struct conf_stream_app *c = m->conf->tenants[k].stream_apps.v;
        for (size_t i = 0; i < m->conf->tenants[k].stream_apps.n; i++)
            if (*c[i].exec)
                app_get(m, m->conf->tenants[k].id, c[i].app, true);
    }
    drain_look(m);
    m->places[LAUNCHER_local].starving = m->places[LAUNCHER_slurm].starving = false;
    for (int first = 1; first >= 0; first--) { /* those that have none go first */
        size_t at = 0;
        for (struct app *a; (a = map_next(&m->apps, &at));) {
            if (first)
                restart_unpark_if_due(a);
            if (needs_first(a) == first)
                reconcile_app(a);
        }
    }
}

void reconcile_on_ended(struct instance *i, const struct run_result *res)
{
    if (*i->ask)
        ask_note_end(i->app, i, res);
    else if (!i->stop)
        restart_note_failure(i->app, i, res);
    reconcile_app(i->app);
}

void reconcile_on_unheard(struct instance *i)
{
    struct app *a = i->app;
    drain_instance(i, DRAIN_UNHEARD, DRAIN_WHY_UNHEARD);
    reconcile_app(a);
    a->mgr->events->gone(a->mgr); /* nobody waits for it any more */
}

void reconcile_on_cancelled(struct instance *i, int64_t delay_ms)
{
    if (*i->ask)
        ask_note_cancelled(i->app, i, delay_ms);
    else
        i->app->not_before_ms = clk_now_ms() + delay_ms;
}
