#include "instance.h"
#include "app.h"
#include "drain.h"
#include "instance_spec.h"
#include "instances_db.h"
#include "journal.h"
#include "streammgr.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "manager/run_handle.h"
#include "manager/warden.h"

#include <stdio.h>
#include <string.h>

static void on_started(void *arg)
{
    struct instance *i = arg;
    if (i->state != INSTANCE_starting)
        return;
    if (i->launcher == LAUNCHER_slurm) /* until then it waited in Slurm's queue */
        i->started_ms = clk_now_ms();
    instance_set_state(i, INSTANCE_running);
    instances_db_started(i->app->mgr->book, i);
}

static void charge(struct instance *i, double cpus, int64_t memory_bytes)
{
    struct streammgr *m = i->app->mgr;
    i->cpus = cpus;
    i->memory_bytes = memory_bytes;
    m->places[i->launcher].cpus += cpus;
    m->places[i->launcher].memory_bytes += memory_bytes;
    m->places[i->launcher].n++;
    i->charged = true;
}

static void discharge(struct instance *i)
{
    struct streammgr *m = i->app->mgr;
    if (!i->charged)
        return;
    i->charged = false;
    m->places[i->launcher].cpus -= i->cpus;
    m->places[i->launcher].memory_bytes -= i->memory_bytes;
    if (!--m->places[i->launcher].n)
        m->places[i->launcher].cpus = 0; /* sums of doubles leave a rest */
}

static void unlink_instance(struct instance *i)
{
    struct app *a = i->app;
    for (struct instance **at = &a->instances; *at; at = &(*at)->next)
        if (*at == i) {
            *at = i->next;
            break;
        }
    a->n -= instance_is_scaled(i);
    discharge(i);
}

static void free_instance(struct instance *i)
{
    run_handle_free(i->handle);
    free(i->node);
    free(i->waits);
    free(i->stop);
    free(i);
}

/* What our code in an instance said of its end, in its result file, where nobody else says why; the tenant may have written it. */
static void take_words(struct run_result *res)
{
    enum { SHOWN = 400 };
    struct app_result r;
    if (res->error || !res->app_result || app_result_parse(res->app_result, strlen(res->app_result), &r, NULL) < 0)
        return;
    res->error = r.error && *r.error ? xstrndup(r.error, SHOWN) : NULL;
    app_result_free(&r);
}

static void on_ended(void *arg, struct run_result *res)
{
    struct instance *i = arg;
    struct app *a = i->app;
    struct streammgr *m = a->mgr;
    crash_at(CRASH_instance_end_seen);
    if (i->stop && res->outcome == RUN_killed && !res->forced)
        res->outcome = RUN_ok; /* SIGTERM ended it, as was ordered */
    if (!i->stop)
        take_words(res);
    instances_db_ended(m->book, i, res);
    crash_at(CRASH_instance_end_noted);
    journal_ended(i, res);
    unlink_instance(i);
    m->events->ended(i, res);
    /* Its successor is started first; what follows can wait. */
    if (i->stop)
        log_info("instance_ended", a->tenant, i->run_id, "app %s: %s%s", a->name, i->stop,
                 res->forced ? "; it had to be killed" : "");
    else
        log_warn("instance_ended", a->tenant, i->run_id, "app %s ended by itself: %s, exit code %d, signal %d%s%s", a->name,
                 run_outcome_name(res->outcome), res->exit_code, res->signal, res->error ? ": " : "", res->error ? res->error : "");
    run_handle_acknowledge(i->handle);
    free_instance(i);
    run_result_free(res);
    free(res);
    m->events->gone(m);
}

static void on_cancelled(void *arg, const char *why, int64_t delay_ms)
{
    struct instance *i = arg;
    struct app *a = i->app;
    struct streammgr *m = a->mgr;
    struct run_result res = {.outcome = RUN_lost,
                             .exit_code = -1,
                             .signal = -1,
                             .max_rss_bytes = -1,
                             .network_refused = -1,
                             .ended_wall_ms = clk_wall_ms(),
                             .error = (char *)why};
    log_warn("instance_cancelled", a->tenant, i->run_id, "app %s: %s", a->name, why);
    instances_db_ended(m->book, i, &res);
    journal_ended(i, &res);
    m->events->cancelled(i, delay_ms);
    unlink_instance(i);
    free_instance(i);
    streammgr_wake_in(m, delay_ms);
    m->events->gone(m);
}

/* Of a job of the cluster. */
static void on_noted(void *arg, enum run_said what, const char *text)
{
    struct instance *i = arg;
    struct app *a = i->app;
    xstr_set(what == RUN_SAID_NODE ? &i->node : &i->waits, *text ? text : NULL);
    if (what == RUN_SAID_NODE)
        instances_db_node(a->mgr->book, i);
    else if (*text)
        log_info("instance_waits", a->tenant, i->run_id, "app %s: %s", a->name, text);
    if (!run_handle_is_unheard(i->handle) || i->unheard)
        return;
    i->unheard = true;
    discharge(i); /* what it had is not to be had there */
    a->mgr->events->unheard(i);
}

static const struct run_handle_ops handle_ops = {on_started, on_ended, on_cancelled, on_noted};

static bool is_job(const struct instance *i)
{
    AUTO_FREE char *path = xasprintf(WARDEN_JOBS "/%s.json", i->run_id);
    return fd_exists(i->app->mgr->home.dirfd, path);
}

static void add_instance(struct app *a, struct instance *i, bool taken_up)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    const struct conf_profile *p = c ? conf_profile(a->mgr->conf, c->profile) : NULL;
    AUTO_FREE char *dir = xasprintf("%s/runs/%s", a->mgr->home.path, i->run_id);
    i->app = a;
    i->leased = -1;
    i->launcher = p ? conf_launcher_of(a->mgr->conf, p) : LAUNCHER_local;
    i->next = a->instances;
    a->instances = i;
    a->n += instance_is_scaled(i);
    i->handle = run_handle_new(a->mgr->spawner, a->tenant, i->run_id, &handle_ops, i);
    run_handle_set_step(i->handle, i->run_id, dir);
    if (taken_up) /* the configuration may be another */
        i->launcher = is_job(i) ? LAUNCHER_slurm : LAUNCHER_local;
    charge(i, p ? p->requests.cpus : 0, p ? p->requests.memory_bytes : 0);
}

int instance_start(struct app *a, const struct ask *ask, struct err *e)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    struct instance *i = xcalloc(1, sizeof *i);
    struct run_spec spec;
    home_new_id(i->run_id);
    if (ask)
        snprintf(i->ask, sizeof i->ask, "%s", ask->id);
    if (ask && !ask->begun)
        snprintf(i->run_id, sizeof i->run_id, "%s", ask->id);
    i->app = a;
    i->generation = instance_spec_generation(a);
    i->attempt = a->failures + 1;
    i->started_wall_ms = clk_wall_ms();
    i->started_ms = clk_now_ms();
    int r = instances_db_begin(a->mgr->book, i, e);
    if (r < 0) {
        log_error("book", a->tenant, NULL, "app %s is not started: %s", a->name, e->msg);
        free(i);
        return r;
    }
    crash_at(CRASH_instance_begin);
    journal_started(i);
    add_instance(a, i, false);
    instance_spec_make(i, t, c, &spec);
    run_handle_start(i->handle, &spec); /* may cancel it at once */
    run_spec_free(&spec);
    return 0;
}

void instance_take_up(struct app *a, const struct instances_db_row *b)
{
    struct instance *i = xcalloc(1, sizeof *i);
    snprintf(i->run_id, sizeof i->run_id, "%s", b->run_id);
    snprintf(i->ask, sizeof i->ask, "%s", b->ask ? b->ask : "");
    i->app = a;
    i->generation = b->generation;
    i->attempt = b->attempt;
    i->started_wall_ms = b->started_wall_ms;
    i->started_ms = clk_now_ms() - (clk_wall_ms() - b->started_wall_ms);
    i->consumes = b->consumes;
    i->stop = xstrdup(b->stop);
    if (i->stop)
        instance_set_state(i, INSTANCE_draining);
    add_instance(a, i, true);
    if (i->stop && strcmp(i->stop, DRAIN_WHY_UNHEARD) != 0)
        run_handle_stop(i->handle);
}

bool instance_is_ready(const struct instance *i)
{
    bool others_consume = false;
    for (const struct instance *k = i->app->instances; k; k = k->next)
        others_consume |= k->consumes;
    return i->state == INSTANCE_running && (i->consumes || (!others_consume && clk_now_ms() - i->started_ms >= INSTANCE_READY_MS));
}

void instances_let_go(struct app *a)
{
    while (a->instances) {
        struct instance *i = a->instances;
        unlink_instance(i);
        free_instance(i);
    }
}
