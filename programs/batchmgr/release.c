#include "release.h"
#include "fair_queue.h"
#include "ledger.h"
#include "state.h"
#include "tenants.h"
#include "turn.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/cron.h"
#include "loop/timer.h"

#include <stdio.h>
#include <string.h>

/* The calendar clock may be set meanwhile, so a timer never runs longer than this before it looks again. */
enum { LOOK_AGAIN_MS = 10000, BACKWARD_MS = 1000 };

/* Files that wait together: held by an app's trigger ("tenant/app"), or gathering for a group ("tenant/app/dataset"). */
struct waiting {
    struct batchmgr *m;
    char *key, *tenant, *app;
    bool gathering;
    struct file_list files;
    struct cron *cron; /* NULL: released by `run` only */
    int64_t next_wall_ms, armed_wall_ms;
    struct event *timer;
};

struct releases {
    struct map waiting; /* key -> struct waiting */
    size_t n;           /* files */
};

static void arm_cron(struct waiting *w);

static void count(struct waiting *w, int by)
{
    w->m->releases->n += (size_t)by;
    tenant_get(w->m, w->tenant)->n_waiting += (size_t)by;
}

static void append(struct waiting *w, struct file *f)
{
    file_list_add(&w->files, f);
    count(w, 1);
}

static struct file *take_first(struct waiting *w)
{
    struct file *f = file_list_take(&w->files);
    if (f)
        count(w, -1);
    return f;
}

static void waiting_free(struct waiting *w)
{
    if (w->timer)
        event_free(w->timer);
    cron_free(w->cron);
    free(w->key);
    free(w->tenant);
    free(w->app);
    free(w);
}

static void forget(struct waiting *w)
{
    map_remove(&w->m->releases->waiting, w->key);
    waiting_free(w);
}

static struct waiting *get(struct batchmgr *m, const struct file *f, const struct conf_batch *app, bool gathering)
{
    AUTO_FREE char *key =
        gathering ? xasprintf("%s/%s/%s", f->tenant, app->app, f->dataset) : xasprintf("%s/%s", f->tenant, app->app);
    struct waiting *w = map_get(&m->releases->waiting, key);
    if (w)
        return w;
    w = xcalloc(1, sizeof *w);
    *w = (struct waiting){
        .m = m, .key = xstrdup(key), .tenant = xstrdup(f->tenant), .app = xstrdup(app->app), .gathering = gathering};
    map_put(&m->releases->waiting, key, w);
    return w;
}

static void timer(struct waiting *w, int64_t ms, void (*fn)(evutil_socket_t, short, void *))
{
    if (!w->timer)
        w->timer = event_new(w->m->base, -1, 0, fn, w);
    timer_set(w->timer, ms);
}

/* ---- groups ---- */

/* Hands the gathered files to the scheduler, which puts as many into each run as the group allows. */
static void go(struct waiting *w)
{
    for (struct file *f; (f = take_first(w));)
        fair_queue_add(w->m->fair_queue, w->app, f);
    turn_kick(w->m);
    forget(w);
}

static void on_waited(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    go(arg);
}

static void gather(struct batchmgr *m, struct file *f, const struct conf_batch *app)
{
    struct waiting *w = get(m, f, app, true);
    append(w, f);
    if ((int64_t)w->files.n >= app->group.max_files)
        go(w);
    else if (w->files.n == 1)
        timer(w, app->group.max_wait_ms, on_waited);
}

/* ---- triggers ---- */

static void mark_released(struct batchmgr *m, struct file *f)
{
    f->released_wall_ms = clk_wall_ms();
    xstr_set(&f->reason, NULL);
    xstr_set(&f->detail, NULL);
    ledger_put_file(m->ledger, f);
}

static void on_released(void *arg)
{
    (void)arg;
    crash_at(CRASH_release_commit);
}

/* Released files are not gathered into groups first. */
static int64_t release_all(struct waiting *w)
{
    int64_t n = 0;
    for (struct file *f; (f = take_first(w)); n++) {
        mark_released(w->m, f);
        fair_queue_add(w->m->fair_queue, w->app, f);
    }
    if (n)
        ledger_then(w->m->ledger, on_released, NULL, NULL);
    turn_kick(w->m);
    return n;
}

static void on_cron(evutil_socket_t fd, short what, void *arg)
{
    struct waiting *w = arg;
    int64_t now = clk_wall_ms();
    (void)fd;
    (void)what;
    if (now < w->next_wall_ms) {
        if (now < w->armed_wall_ms - BACKWARD_MS)
            w->next_wall_ms = cron_next(w->cron, now); /* the clock was set back */
        arm_cron(w);
        return;
    }
    log_info("released", w->tenant, NULL, "%zu files for app %s by its trigger", w->files.n, w->app);
    release_all(w);
    forget(w);
}

static void arm_cron(struct waiting *w)
{
    int64_t now = clk_wall_ms(), ms = w->next_wall_ms - now;
    w->armed_wall_ms = now;
    timer(w, ms < 0 ? 0 : ms > LOOK_AGAIN_MS ? LOOK_AGAIN_MS : ms, on_cron);
}

static void hold(struct batchmgr *m, struct file *f, const struct conf_batch *app)
{
    struct waiting *w = get(m, f, app, false);
    char detail[200], stamp[CLK_RFC3339_SIZE];
    bool manual = !strcmp(app->trigger, CONF_MANUAL);
    if (!manual && !w->cron) {
        if (cron_new(app->trigger + strlen(CONF_CRON), app->timezone, &w->cron, NULL) < 0)
            return; /* the configuration was checked */
        w->next_wall_ms = cron_next(w->cron, clk_wall_ms());
        arm_cron(w);
    }
    if (manual)
        snprintf(detail, sizeof detail, "waits for `mysimbdp run %s/%s`", f->tenant, app->app);
    else
        snprintf(detail, sizeof detail, "waits for the trigger of app %s at %s", app->app, clk_rfc3339(w->next_wall_ms, stamp));
    append(w, f);
    if (!f->detail || strcmp(f->detail, detail)) {
        xstr_set(&f->reason, "trigger");
        xstr_set(&f->detail, detail);
        ledger_put_file(m->ledger, f);
    }
}

/* True when its time came already (while batchmgr was down, or while it was inspected). */
static bool is_due(const struct file *f, const struct conf_batch *app)
{
    struct cron *c = NULL;
    if (!strcmp(app->trigger, CONF_MANUAL) || cron_new(app->trigger + strlen(CONF_CRON), app->timezone, &c, NULL) < 0)
        return false;
    int64_t at = cron_next(c, f->received_wall_ms);
    cron_free(c);
    return at >= 0 && at <= clk_wall_ms();
}

void release_add(struct batchmgr *m, struct file *f, const struct conf_batch *app)
{
    bool triggered = app && strcmp(app->trigger, CONF_ARRIVAL) != 0;
    bool to_check = app && *app->checker && !f->checked;
    if (triggered && !to_check && !f->released_wall_ms) {
        if (!is_due(f, app)) {
            hold(m, f, app);
            return;
        }
        mark_released(m, f);
    }
    if (f->reason && !strcmp(f->reason, "trigger")) /* the app's trigger is another one now */
        mark_released(m, f);
    if (app && !triggered && !to_check && app->group.max_files > 1 && app->group.max_wait_ms > 0 && file_may_be_grouped(f)) {
        gather(m, f, app);
        return;
    }
    fair_queue_add(m->fair_queue, app ? app->app : "", f);
    turn_kick(m);
}

bool release_remove(struct batchmgr *m, struct file *f)
{
    size_t i = 0;
    for (struct waiting *w; (w = map_next(&m->releases->waiting, &i));)
        if (f->list == &w->files) {
            file_list_remove(f);
            count(w, -1);
            return true;
        }
    return false;
}

static struct waiting *any(struct batchmgr *m, const char *tenant, const char *app)
{
    size_t i = 0;
    for (struct waiting *w; (w = map_next(&m->releases->waiting, &i));)
        if ((!tenant || !strcmp(w->tenant, tenant)) && (!app || !strcmp(w->app, app)))
            return w;
    return NULL;
}

void release_drain(struct batchmgr *m, const char *tenant, void (*fn)(void *arg, struct file *f), void *arg)
{
    for (struct waiting *w; (w = any(m, tenant, NULL));) {
        for (struct file *f; (f = take_first(w));)
            fn(arg, f);
        forget(w);
    }
}

int64_t release_app(struct batchmgr *m, const char *tenant, const char *app)
{
    int64_t n = 0;
    for (struct waiting *w; (w = any(m, tenant, app));) {
        n += release_all(w);
        forget(w);
    }
    return n;
}

size_t release_n(const struct batchmgr *m, const char *tenant)
{
    const struct tenant *t = tenant ? map_get(&m->tenants, tenant) : NULL;
    return tenant ? (t ? t->n_waiting : 0) : m->releases->n;
}

static void drop(void *arg, struct file *f)
{
    (void)arg;
    (void)f;
}

void release_start(struct batchmgr *m)
{
    m->releases = xcalloc(1, sizeof *m->releases);
}

void release_stop(struct batchmgr *m)
{
    if (!m->releases)
        return;
    release_drain(m, NULL, drop, NULL);
    map_fini(&m->releases->waiting);
    free(m->releases);
    m->releases = NULL;
}
