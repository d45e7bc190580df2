#include "consumers.h"
#include "app.h"
#include "drain.h"
#include "instances_db.h"
#include "reconcile.h"
#include "streammgr.h"

#include "base/clk.h"
#include "base/log.h"
#include "conf/conf.h"
#include "manager/spawner.h"

#include <string.h>

static struct instance *by_id(struct app *a, const char *id)
{
    for (struct instance *i = a->instances; i; i = i->next)
        if (!strcmp(i->run_id, id))
            return i;
    return NULL;
}

/* By the key that it showed, where it is on a node; else by its process's environment, which only the warden may read. */
static struct instance *instance_of(struct app *a, const char *run_id, int64_t pid)
{
    char id[ID_SIZE] = "";
    if (run_id)
        return by_id(a, run_id);
    if (pid <= 0 ||
        spawner_ask(a->mgr->spawner, &(struct warden_request){.op = WARDEN_WHOSE, .number = pid}, NULL, id, sizeof id - 1) <= 0)
        return NULL;
    return by_id(a, id);
}

static void forget_consumers(struct streammgr *m)
{
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (struct instance *i = a->instances; i; i = i->next) {
            i->held = i->n_sessions && i->held;
            i->leased = -1;
            i->n_sessions = 0;
        }
}

static void see_consumer(struct streammgr *m, const bson_t *doc)
{
    struct app *a = app_get(m, json_get_str(doc, "tenant_id", ""), json_get_str(doc, "app", ""), false);
    struct instance *i = a ? instance_of(a, json_get_str(doc, "run_id", NULL), json_get_i64(doc, "pid", -1)) : NULL;
    int64_t ran_out = json_get_i64(doc, "ran_out", 0);
    if (!i)
        return;
    if (!i->consumes) {
        i->consumes = true;
        instances_db_consumes(m->book, i);
    }
    i->leased = (i->leased > 0 ? i->leased : 0) + json_get_i64(doc, "leased", 0);
    if (i->n_sessions < MAX_SESSIONS)
        i->sessions[i->n_sessions++] = (uint64_t)json_get_i64(doc, "session", 0);
    if (ran_out > 0 && !i->stop) {
        log_warn("instance_hangs", a->tenant, i->run_id,
                 "app %s: the leases of %lld messages ran out, and nothing was heard of it since", a->name, (long long)ran_out);
        drain_instance(i, DRAIN_AT_ONCE, "it hangs: its leases ran out");
    }
}

/* A process that hangs loses its connection, so that its leases need not run out first: no session for lease_ms is enough. */
static void look_for_absent(struct app *a)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    const struct conf_stream *st = c ? conf_stream(t, c->stream) : NULL;
    int64_t now = clk_now_ms();
    for (struct instance *i = a->instances; st && i; i = i->next) {
        if (!i->consumes || i->n_sessions || i->stop) {
            i->absent_ms = 0;
        } else if (!i->absent_ms) {
            i->absent_ms = now;
        } else if (now - i->absent_ms >= st->lease_ms) {
            log_warn("instance_hangs", a->tenant, i->run_id,
                     "app %s: it took messages before, and is not connected for %.1f s (lease_ms)", a->name,
                     (double)(now - i->absent_ms) / 1000);
            drain_instance(i, DRAIN_AT_ONCE, "it hangs: its connection is gone");
        }
    }
}

void consumers_gone(struct streammgr *m)
{
    size_t at = 0;
    m->seen_ms = 0;
    forget_consumers(m);
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (struct instance *i = a->instances; i; i = i->next)
            i->absent_ms = 0;
}

void consumers_see(struct streammgr *m, const bson_iter_t *consumers)
{
    bson_iter_t it = *consumers;
    bson_t doc;
    size_t at = 0;
    forget_consumers(m);
    while (json_next_doc(&it, &doc))
        see_consumer(m, &doc);
    m->seen_ms = clk_now_ms();
    for (struct app *a; (a = map_next(&m->apps, &at));)
        look_for_absent(a);
    reconcile_all(m);
}

void consumers_activate(struct streammgr *m, const char *tenant, const char *name)
{
    const struct conf_tenant *t = conf_tenant(m->conf, tenant);
    const struct conf_stream_app *c = t ? conf_stream_app(t, name) : NULL;
    struct err e = {0};
    if (!c || !*c->exec || !c->on_demand)
        return;
    struct app *a = app_get(m, tenant, name, true);
    if (a->wanted > 0 || a->stopped)
        return;
    a->wanted = 1;
    if (instances_db_put_app(m->book, a, &e) < 0)
        log_error("book", tenant, NULL, "%s", e.msg);
    log_info("activated", tenant, NULL, "app %s: a message waits", name);
    reconcile_app(a);
}
