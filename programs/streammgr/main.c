/* streammgr: which instances of the tenants' stream apps run. What is wanted comes from the configuration (min, max), from orders
 * on the control socket, and from the broker, which says when a message waits for an app that has no instance.
 *
 * Failure story: instances are runs like any other (programs/runner/runner.c) and outlive this program. Each has a row in the book
 * before it is started; the next streammgr takes up all that have not ended (lib/manager/run_handle.h) and wants as many as there
 * were.
 */
#include "app_list.h"
#include "consumers.h"
#include "control.h"
#include "drain.h"
#include "instance.h"
#include "instances_db.h"
#include "quality.h"
#include "reconcile.h"
#include "recover.h"
#include "reload.h"
#include "streammgr.h"
#include "tenant_facts.h"
#include "watcher.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "host/uid_block.h"
#include "loop/daemon.h"
#include "loop/timer.h"
#include "manager/enter.h"
#include "manager/images.h"
#include "manager/spawner.h"
#include "sandbox/confine.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TICK_MS = 1000, PRUNE_MS = 60000, PRUNE_AT_ONCE = 256 };

static void on_ready(void *arg)
{
    struct streammgr *m = arg;
    reconcile_all(m);
}

static void look_at_facts(struct streammgr *m)
{
    struct err e = {0};
    bool failed = tenant_facts_look(m, &e) < 0;
    if (failed && !m->facts_failed)
        log_warn("facts", NULL, NULL, "%s", e.msg);
    m->facts_failed = failed;
}

/* Removes logs of instances as retention.logs_days of each tenant says. */
static void prune_logs(struct streammgr *m)
{
    enum { DAY_MS = 86400000 };
    for (size_t k = 0; k < m->conf->n_tenants; k++) {
        const struct conf_tenant *t = &m->conf->tenants[k];
        if (t->retention.logs_days >= 0 &&
            instances_db_prune(m->book, t->id, clk_wall_ms() - t->retention.logs_days * DAY_MS, PRUNE_AT_ONCE) == PRUNE_AT_ONCE)
            m->prune_at_ms = 0; /* there may be more */
    }
}

/* Removes what the book has of tenants that were removed for good while no streammgr ran. */
static void forget_removed(struct streammgr *m)
{
    size_t at = 0;
    for (struct tenant_facts *f; (f = map_next(&m->facts, &at));) {
        struct err e = {0};
        if (f->removed && !conf_tenant(m->conf, f->tenant) && !instances_of(m, f->tenant) &&
            instances_db_forget(m->book, f->tenant, !f->held, &e) < 0)
            log_error("book", f->tenant, NULL, "%s", e.msg);
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct streammgr *m = arg;
    (void)fd;
    (void)what;
    timer_set(m->tick_ev, TICK_MS);
    look_at_facts(m);
    reconcile_all(m);
    watcher_ask(m->watcher);
    quality_look(m);
    if (clk_now_ms() >= m->prune_at_ms) {
        m->prune_at_ms = clk_now_ms() + PRUNE_MS;
        prune_logs(m);
        forget_removed(m);
    }
}

/* ---- signals ---- */

static void on_reload(void *arg)
{
    struct err e = {0};
    streammgr_reload(arg, &e);
}

/* ---- life ---- */

/* What goes on further up (streammgr.h). */
static const struct instance_events instance_events = {reconcile_on_ended, reconcile_on_cancelled, reconcile_on_unheard,
                                                       control_check_drained};
static const struct watcher_ops watcher_ops = {drain_held_sessions, consumers_see, consumers_activate, reconcile_all,
                                               consumers_gone};

static int start(struct streammgr *m, struct err *e)
{
    int r = conf_load(m->home.path, &m->conf, e);
    if (r < 0)
        return r;
    isolation_probe(&m->isolation, &m->home);
    r = spawner_new(m->base, &m->home, "streammgr", on_ready, m, &m->spawner, e);
    if (r == 0)
        r = enter_room(&m->home, m->conf, UID_STREAMMGR, &m->outside, e);
    if (r < 0)
        return r;
    spawner_begin(m->spawner);
    r = instances_db_open(&m->home, true, &m->book, e);
    if (r < 0)
        return r;
    randombytes_buf(&m->epoch, sizeof m->epoch);
    m->epoch >>= 2; /* a positive number in JSON, too */
    struct err none = {0};
    if (tenant_facts_look(m, &none) < 0 || !m->facts.n)
        log_info("facts", NULL, NULL, "waiting for batchmgr%s%s", *none.msg ? ": " : "", none.msg);
    m->tick_ev = event_new(m->base, -1, 0, on_tick, m);
    m->images = images_new(m->base, &m->home, &m->isolation, m->spawner, on_ready, m);
    r = recover(m, e);
    if (r < 0)
        return r;
    m->watcher = watcher_new(m, &watcher_ops);
    r = control_start(m, e);
    if (r == 0)
        streammgr_wake_in(m, 1);
    return r;
}

static void release(struct streammgr *m)
{
    recover_free(m);
    images_free(m->images);
    spawner_free(m->spawner);
    tenant_facts_free(m);
    instances_db_close(m->book);
    conf_free(m->conf);
    outside_free(m->outside);
    if (m->tick_ev)
        event_free(m->tick_ev);
}

static int run(struct streammgr *m, bool supervised, struct err *e)
{
    int lock = home_lock(&m->home, "streammgr", 0, e);
    if (lock < 0)
        return lock;
    int r = confine_manager();
    if (r < 0)
        return err_sys(e, r, "cannot give up rights");
    struct daemon *d = daemon_new(m->base, supervised, &(struct daemon_ops){"instances are left alone", on_reload, NULL, m});
    m->supervised = supervised;
    r = start(m, e);
    if (r == 0) {
        log_info("ready", NULL, NULL, "home %s", m->home.path);
        event_base_dispatch(m->base);
    }
    control_stop(m);
    watcher_free(m->watcher);
    m->watcher = NULL;
    daemon_free(d);
    close(lock);
    return r;
}

/* What is known while no streammgr runs: the configuration and the book. */
static int list(struct streammgr *m, const char *tenant, struct err *e)
{
    AUTO_BUF struct buf out = {0};
    int r = conf_load(m->home.path, &m->conf, e);
    if (r == 0)
        r = instances_db_open(&m->home, false, &m->book, e);
    if (r == 0)
        r = recover_read(m, e);
    if (r == 0) {
        struct err none = {0};
        tenant_facts_read(m, &none);
        json_begin(&out, NULL, '[');
        app_list_print(m, &out, *tenant ? tenant : NULL);
        json_end(&out, ']');
        if (fputs(out.p, stdout) < 0 || fflush(stdout) < 0)
            r = err_sys(e, -errno, "cannot write");
    }
    return r;
}

static const char usage[] =
    "usage: streammgr [--supervised] --home HOME\n"
    "       streammgr --list TENANT --home HOME\n"
    "Runs instances of the tenants' stream apps. `mysimbdp up` starts it.\n"
    "--supervised: also end when stdin closes. SIGTERM: end, leave instances alone. SIGHUP: read the configuration again.\n"
    "--list: what `mysimbdp app list` shows while no streammgr runs, as a JSON array; of all tenants when TENANT is empty.\n"
    "Exit: 0 stopped, 1 could not start (the log says why), 2 usage.\n";

int main(int argc, char **argv)
{
    struct streammgr m = {0};
    struct err e = {0};
    daemon_prepare("streammgr");
    const char *home;
    bool supervised = daemon_take_args(&argc, argv, usage, &home);
    bool listing = argc == 3 && !strcmp(argv[1], "--list");
    if (!listing && argc != 1)
        return fputs(usage, stderr), 2;
    if (sodium_init() < 0)
        return 1;
    m.started_wall_ms = clk_wall_ms();
    m.events = &instance_events;
    m.base = daemon_loop(0);
    int r = home_enter(&m.home, home, &e);
    if (r == 0)
        r = listing ? list(&m, argv[2], &e) : run(&m, supervised, &e);
    if (r < 0)
        log_error("start", NULL, NULL, "%s", e.msg);
    release(&m);
    event_base_free(m.base);
    home_close(&m.home);
    return r < 0;
}
