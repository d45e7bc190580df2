#include "app_list.h"
#include "app.h"
#include "instance.h"
#include "instances_db.h"
#include "manual_instances.h"
#include "streammgr.h"
#include "tenant_facts.h"

#include "base/clk.h"
#include "base/json.h"
#include "base/mem.h"
#include "conf/conf.h"

#include <string.h>

static const char *state_of(const struct app *a, int64_t target, const char *why)
{
    const struct tenant_facts *f = tenant_facts_of(a->mgr, a->tenant);
    return a->stopped                                                  ? "stopped"
           : f && f->suspended                                         ? "suspended"
           : a->parked                                                 ? "parked"
           : (int64_t)a->n < target && clk_now_ms() < a->not_before_ms ? "backoff"
           : why && !a->n                                              ? "waiting"
           : (int64_t)a->n < target && a->n                            ? "scaling"
           : (int64_t)a->n < target                                    ? "starting"
           : a->n                                                      ? "running"
                                                                       : "idle";
}

static void add_args(struct buf *out, const struct ask *k)
{
    bson_iter_t args;
    AUTO_BSON bson_t *doc = json_parse(k->args, strlen(k->args), NULL);
    json_begin(out, "args", '[');
    if (doc && json_get_iter(doc, "args", &args))
        while (bson_iter_next(&args))
            json_str(out, NULL, bson_iter_utf8(&args, NULL));
    json_end(out, ']');
}

/* Those that a person asked for, with their instances. */
static void add_asks(struct buf *out, const struct app *a)
{
    json_begin(out, "asks", '[');
    for (const struct ask *k = a->asks; k; k = k->next) {
        const struct instance *i = ask_instance(a, k->id);
        json_begin(out, NULL, '{');
        json_str(out, "id", k->id);
        json_str(out, "run_id", i ? i->run_id : NULL);
        add_args(out, k);
        json_end(out, '}');
    }
    json_end(out, ']');
}

/* What provider and tenant are told alike. True: something forbids further instances. */
static bool add_state(struct buf *out, struct app *a, const struct conf_stream_app *c)
{
    struct streammgr *m = a->mgr;
    AUTO_FREE char *backoff = NULL;
    const char *why;
    int64_t target = app_target(a, &why), n[INSTANCE_N_STATES] = {0}, ready = 0, wait = a->not_before_ms - clk_now_ms();
    bool blocked = why != NULL;
    if (!why && (int64_t)a->n < target && wait > 0)
        why = backoff = xasprintf("ended by itself %lld times in a row, the last time with %s; the next start is in %.1f s",
                                  (long long)a->failures, a->last_end ? a->last_end : "?", (double)wait / 1000);
    else if (!why && (int64_t)a->n < target && !app_has_capacity(a, conf_profile(m->conf, c->profile)))
        why = "stream_pct of the platform's capacity is taken";
    for (const struct instance *i = a->instances; i && !why; i = i->next)
        why = i->state == INSTANCE_starting ? i->waits : NULL;
    for (const struct instance *i = a->instances; i; i = i->next) {
        n[i->state] += !*i->ask;
        ready += !*i->ask && instance_is_ready(i);
    }
    json_str(out, "app", c->app);
    json_str(out, "stream", c->stream);
    json_str(out, "state", state_of(a, target, why));
    json_i64(out, "instances", n[INSTANCE_starting] + n[INSTANCE_running]);
    json_i64(out, "running", n[INSTANCE_running]);
    json_i64(out, "ready", ready);
    json_i64(out, "draining", n[INSTANCE_draining]);
    json_i64(out, "desired", target);
    json_i64(out, "by_hand", (int64_t)a->n_asks);
    json_i64(out, "min_instances", c->min_instances);
    json_i64(out, "max_instances", c->max_instances);
    json_str(out, "reason", a->parked ? a->parked : why);
    json_bool(out, "pinned", a->pinned);
    json_i64(out, "restarts", a->restarts);
    return blocked;
}

static void add_app(struct streammgr *m, struct buf *out, const struct conf_tenant *t, const struct conf_stream_app *c)
{
    struct app *a = app_get(m, t->id, c->app, true);
    json_begin(out, NULL, '{');
    json_str(out, "tenant_id", t->id);
    json_bool(out, "blocked", add_state(out, a, c));
    json_i64(out, "order_seq", a->order_seq);
    json_begin(out, "run_ids", '[');
    for (const struct instance *i = a->instances; i; i = i->next)
        json_str(out, NULL, i->run_id);
    json_end(out, ']');
    add_asks(out, a);
    json_end(out, '}');
}

void app_list_print(struct streammgr *m, struct buf *out, const char *tenant)
{
    for (size_t k = 0; k < m->conf->n_tenants; k++) {
        const struct conf_tenant *t = &m->conf->tenants[k];
        const struct conf_stream_app *v = t->stream_apps.v;
        for (size_t i = 0; i < t->stream_apps.n; i++)
            if (*v[i].exec && (!tenant || !strcmp(tenant, t->id)))
                add_app(m, out, t, &v[i]);
    }
}

/* ---- for a tenant ---- */

/* One that runs, or (i NULL) one that a person asked for and that has to wait. */
static void add_instance(struct buf *out, struct app *a, const struct instance *i, const struct ask *k)
{
    const char *ask = k ? k->id : i && *i->ask ? i->ask : NULL, *run_id = i ? i->run_id : NULL;
    json_begin(out, NULL, '{');
    json_str(out, "instance_id", ask ? ask : run_id);
    json_str(out, "app", a->name);
    json_str(out, "state", i ? instance_state_name(i->state) : "waiting");
    json_str(out, "reason", !i ? manual_instance_waits_for(a) : i->stop ? i->stop : i->waits);
    json_str(out, "run_id", run_id);
    json_time(out, "started_at", i ? i->started_wall_ms : 0);
    json_i64_or_null(out, "in_flight", i ? i->leased : -1);
    json_bool(out, "by_hand", ask != NULL);
    if (k)
        add_args(out, k);
    else
        json_null(out, "args");
    if (ask)
        instances_db_add_last_end(a->mgr->book, a, ask, out, "last_end");
    else
        json_null(out, "last_end");
    json_end(out, '}');
}

static void add_instances(struct buf *out, struct app *a)
{
    for (const struct instance *i = a->instances; i; i = i->next)
        add_instance(out, a, i, ask_of(a, i->ask));
    for (const struct ask *k = a->asks; k; k = k->next) {
        const struct instance *i = a->instances;
        while (i && strcmp(i->ask, k->id) != 0)
            i = i->next;
        if (!i)
            add_instance(out, a, NULL, k);
    }
}

void app_list_of_tenant(struct streammgr *m, struct buf *out, const struct conf_tenant *t, const char *app)
{
    const struct conf_stream_app *v = t->stream_apps.v;
    json_begin(out, "apps", '[');
    for (size_t i = 0; i < t->stream_apps.n; i++) {
        if (!*v[i].exec || (app && strcmp(app, v[i].app) != 0))
            continue;
        struct app *a = app_get(m, t->id, v[i].app, true);
        json_begin(out, NULL, '{');
        add_state(out, a, &v[i]);
        instances_db_add_last_end(m->book, a, NULL, out, "last_end");
        json_end(out, '}');
    }
    json_end(out, ']');
    json_begin(out, "instances", '[');
    for (size_t i = 0; i < t->stream_apps.n; i++)
        if (*v[i].exec && (!app || !strcmp(app, v[i].app)))
            add_instances(out, app_get(m, t->id, v[i].app, true));
    json_end(out, ']');
}
