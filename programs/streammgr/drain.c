#include "drain.h"
#include "app.h"
#include "instances_db.h"
#include "journal.h"
#include "streammgr.h"
#include "watcher.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "manager/run_handle.h"

enum { DRAIN_TICK_MS = 20 };

static void send_term(struct instance *i)
{
    i->term_at_ms = 0;
    run_handle_stop(i->handle);
}

void drain_instance(struct instance *i, enum drain_manner manner, const char *why)
{
    struct app *a = i->app;
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    if (i->stop)
        return;
    i->stop = xstrdup(why);
    instance_set_state(i, INSTANCE_draining);
    a->n -= !*i->ask;
    instances_db_draining(a->mgr->book, i);
    journal_draining(i);
    crash_at(CRASH_instance_drain);
    if (manner == DRAIN_GENTLY && i->n_sessions && c && c->drain_s > 0) {
        i->term_at_ms = clk_now_ms() + c->drain_s * 1000;
        watcher_ask(a->mgr->watcher);
        streammgr_wake_in(a->mgr, DRAIN_TICK_MS);
    } else if (manner != DRAIN_UNHEARD) {
        send_term(i);
    }
}

void drain_look(struct streammgr *m)
{
    size_t at = 0;
    bool any = false;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (struct instance *i = a->instances; i; i = i->next) {
            if (!i->term_at_ms)
                continue;
            if ((i->held && i->leased <= 0) || clk_now_ms() >= i->term_at_ms)
                send_term(i);
            else
                any = true;
        }
    if (any)
        streammgr_wake_in(m, DRAIN_TICK_MS); /* then the broker is asked again */
}

void drain_all(struct streammgr *m, struct app *only, const char *why)
{
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (struct instance *i = a->instances; i; i = i->next)
            if (!only || a == only)
                drain_instance(i, DRAIN_GENTLY, why);
}

bool drain_held_sessions(struct streammgr *m, struct buf *out)
{
    size_t at = 0;
    bool any = false;
    json_begin(out, "hold", '[');
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (struct instance *i = a->instances; i; i = i->next) {
            if (!i->stop || !i->n_sessions)
                continue;
            i->held = any = true; /* by the time this is answered */
            for (size_t k = 0; k < i->n_sessions; k++)
                json_i64(out, NULL, (int64_t)i->sessions[k]);
        }
    json_end(out, ']');
    bool needed = any || m->holding;
    m->holding = any;
    return needed;
}
