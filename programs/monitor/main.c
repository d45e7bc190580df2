/* monitor: what the tenants' apps do, and how many instances each stream app needs. It starts and stops nothing: streammgr follows
 * its orders, and keeps what it has when there are none. */
#include "monitor.h"

#include "advise.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/uid_block.h"
#include "loop/daemon.h"
#include "loop/timer.h"
#include "sandbox/confine.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TICK_MS = 1000, MAX_CALLBACKS = 16 };

void monitor_look_at_clocks(struct monitor *m)
{
    m->now_ms = clk_now_ms();
    m->wall_ms = clk_wall_ms();
}

/* ---- apps ---- */

static void app_free(struct app *a)
{
    windows_fini(&a->window);
    map_fini(&a->run_ids);
    char *strings[] = {a->tenant, a->name, a->stream, a->managed_state, a->why, a->reason, a->recorded_reason, a->refusal};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        free(strings[i]);
    free(a->alarms);
    free(a);
}

static void batch_app_free(struct batch_app *a)
{
    windows_fini(&a->window);
    free(a->tenant);
    free(a->name);
    free(a);
}

static void *find(const struct map *apps, const char *tenant, const char *name)
{
    char key[2 * REPORT_MAX_ID + 2];
    size_t n = strlen(tenant);
    if (n + strlen(name) + 2 > sizeof key)
        return NULL;
    stpcpy(stpcpy(stpcpy(key, tenant), "/"), name);
    return map_get(apps, key);
}

struct app *monitor_app(struct monitor *m, const char *tenant, const char *name)
{
    return find(&m->apps, tenant, name);
}

struct batch_app *monitor_batch_app(struct monitor *m, const char *tenant, const char *name)
{
    return find(&m->batch_apps, tenant, name);
}

static void app_add(struct monitor *m, struct map *apps, const char *tenant, const struct conf_stream_app *c)
{
    AUTO_FREE char *key = xasprintf("%s/%s", tenant, c->app);
    struct app *a = map_get(&m->apps, key);
    if (a && !strcmp(a->stream, c->stream)) {
        map_remove(&m->apps, key);
    } else {
        a = xcalloc(1, sizeof *a);
        *a = (struct app){.tenant = xstrdup(tenant),
                          .name = xstrdup(c->app),
                          .stream = xstrdup(c->stream),
                          .published = NAN,
                          .acked = NAN,
                          .ingress_per_s = NAN,
                          .settled_per_s = NAN};
    }
    a->conf = c;
    map_put(apps, key, a);
}

static void batch_app_add(struct monitor *m, struct map *apps, const char *tenant, const char *name)
{
    AUTO_FREE char *key = xasprintf("%s/%s", tenant, name);
    struct batch_app *a = map_remove(&m->batch_apps, key);
    if (!a) {
        a = xcalloc(1, sizeof *a);
        *a = (struct batch_app){.tenant = xstrdup(tenant), .name = xstrdup(name)};
    }
    map_put(apps, key, a);
}

static void free_apps(struct monitor *m)
{
    size_t i = 0;
    for (struct app *a; (a = map_next(&m->apps, &i));)
        app_free(a);
    map_fini(&m->apps);
    i = 0;
    for (struct batch_app *a; (a = map_next(&m->batch_apps, &i));)
        batch_app_free(a);
    map_fini(&m->batch_apps);
}

/* What is configured, with what is known of it already. */
static void set_apps(struct monitor *m)
{
    struct map apps = {0}, batch_apps = {0};
    for (size_t k = 0; k < m->conf->n_tenants; k++) {
        const struct conf_tenant *t = &m->conf->tenants[k];
        const struct conf_stream_app *v = t->stream_apps.v;
        for (size_t i = 0; i < t->stream_apps.n; i++)
            app_add(m, &apps, t->id, &v[i]);
        const struct conf_batch *b = t->batch.v;
        for (size_t i = 0; i < t->batch.n; i++)
            batch_app_add(m, &batch_apps, t->id, b[i].app);
    }
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));) {
        alerts_app_gone(m, a);
        past_forget(m->past, a->tenant, a->name);
    }
    free_apps(m);
    m->apps = apps;
    m->batch_apps = batch_apps;
}

/* Each keeper goes by what it read last. */
static int read_conf(struct monitor *m, struct conf **ret, struct err *e)
{
    struct keeper *const others[] = {m->textfile, m->otlp};
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof others / sizeof *others; i++) {
        struct conf *same = NULL;
        r = keeper_conf(others[i], &same, e);
        conf_free(same);
    }
    m->export_off = false;
    return r < 0 ? r : keeper_conf(m->keeper, ret, e);
}

int monitor_reload(struct monitor *m, struct err *e)
{
    struct conf *next = NULL;
    int r = read_conf(m, &next, e);
    if (r < 0) {
        log_error("reload", NULL, NULL, "%s; the configuration stays as it was", e->msg);
        return r;
    }
    struct conf *old = m->conf;
    m->conf = next;
    set_apps(m);
    conf_free(old);
    inbox_read_tenants(m);
    return alerts_set(m, e);
}

/* ---- once a second ---- */

static int alive(const char *id, void *arg)
{
    const struct app *a = arg;
    if (!strncmp(id, "pid:", 4))
        return kill((pid_t)atoi(id + 4), 0) == 0 || errno == EPERM;
    return !*a->conf->exec || !a->managed_ms ? -1 : map_get(&a->run_ids, id) != NULL;
}

/* Batch runs come to their end all the time, and what they were to do is in the ledger. */
static int ended(const char *id, void *arg)
{
    (void)id;
    (void)arg;
    return 0;
}

static void keep_past(struct monitor *m, const struct app *a, const struct metric_row *row)
{
    const double *v = row->number;
    past_add(m->past, a->tenant, a->name, m->wall_ms,
             &(struct past_figures){v[METRIC_in_per_s], v[METRIC_acked_per_s], v[METRIC_ready] + v[METRIC_leased],
                                    v[METRIC_oldest_age_s], v[METRIC_instances], v[METRIC_desired]});
}

void monitor_judge(struct monitor *m)
{
    size_t i = 0;
    m->judged_ms = m->now_ms;
    for (struct app *a; (a = map_next(&m->apps, &i));) {
        struct metric_row row;
        const char *who;
        size_t silent = windows_expire(&a->window, m->now_ms, alive, a, &who);
        if (silent > a->n_silent)
            log_warn("silent", a->tenant, NULL, "app %s: instance %s runs and does not report any more (%zu of them)", a->name, who,
                     silent);
        a->n_silent = silent;
        orders_decide(m, a);
        board_row(m, a, &row);
        keep_past(m, a, &row);
        alerts_look(m, a, &row);
        board_judge(m, a, &row);
        history_take_app(m, a, &row);
    }
    i = 0;
    for (struct batch_app *a; (a = map_next(&m->batch_apps, &i));) {
        const char *who;
        windows_expire(&a->window, m->now_ms, ended, NULL, &who);
    }
    board_log(m);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct monitor *m = arg;
    (void)fd;
    (void)what;
    monitor_look_at_clocks(m);
    if (m->now_ms - m->judged_ms > TICK_MS + TICK_MS / 2) /* the broker did not answer */
        monitor_judge(m);
    alerts_alive(m);
    follow_ask(m);
    textfile_write(m);
    export_ask(m);
}

/* ---- signals ---- */

static void on_reload(void *arg)
{
    struct err e = {0};
    monitor_reload(arg, &e);
}

/* ---- life ---- */

/* Tenants and, on tcp, anybody talk to this program; as the broker it is a user of its own from here on, and changes no file at
 * all: what it writes to the disk and the commands of alerts are the keeper's. */
static int give_up_rights(const struct monitor *m, struct err *e)
{
    const char *const writable[] = {m->home.runtime, "/dev/null"};
    int r = confine_program(&(struct confinement){
        home_is_roots(&m->home), uid_of_program(&m->home, m->conf->platform.uid_base, UID_MONITOR), -1, writable, 2});
    return r < 0 ? err_sys(e, r, "cannot give up rights") : 0;
}

/* Before rights are given up: the file is whose who started this is. */
static void open_past(struct monitor *m)
{
    AUTO_FREE char *path = xasprintf("%s/monitor.past", m->home.runtime);
    struct err e = {0};
    m->past = past_open(path, &e);
    if (e.code)
        log_warn("past", NULL, NULL, "%s; curves begin anew with this program", e.msg);
}

static int start(struct monitor *m, struct err *e)
{
    int r = keeper_start(m->base, &m->home, "monitor", &m->keeper, e);
    if (r == 0)
        r = keeper_start(m->base, &m->home, "textfile", &m->textfile, e);
    if (r == 0)
        r = keeper_start(m->base, &m->home, "otlp", &m->otlp, e);
    if (r == 0)
        r = read_conf(m, &m->conf, e);
    if (r < 0)
        return r;
    open_past(m);
    set_apps(m);
    past_keep(m->past, &m->apps);
    r = alerts_set(m, e);
    if (r == 0)
        r = inbox_start(m, e);
    if (r == 0)
        r = control_start(m, e);
    if (r == 0)
        r = give_up_rights(m, e);
    if (r < 0)
        return r;
    follow_start(m);
    m->tick_ev = event_new(m->base, -1, EV_PERSIST, on_tick, m);
    timer_set(m->tick_ev, TICK_MS);
    return 0;
}

static void release(struct monitor *m)
{
    follow_stop(m);
    control_stop(m);
    inbox_stop(m);
    alerts_free(m);
    free_apps(m);
    past_close(m->past);
    conf_free(m->conf);
    keeper_stop(m->keeper);
    keeper_stop(m->textfile);
    keeper_stop(m->otlp);
    export_forget(m);
    free(m->textfile_error);
    if (m->tick_ev)
        event_free(m->tick_ev);
}

static int run(struct monitor *m, bool supervised, struct err *e)
{
    int lock = home_lock(&m->home, "monitor", 0, e);
    if (lock < 0)
        return lock;
    struct daemon *d = daemon_new(m->base, supervised, &(struct daemon_ops){NULL, on_reload, NULL, m});
    monitor_look_at_clocks(m);
    int r = start(m, e);
    if (r == 0) {
        log_info("ready", NULL, NULL, "home %s, %s%s%s", m->home.path, m->net.ipc_endpoint, m->net.tcp_endpoint ? ", " : "",
                 m->net.tcp_endpoint ? m->net.tcp_endpoint : "");
        event_base_dispatch(m->base);
    }
    daemon_free(d);
    close(lock);
    return r;
}

static const char usage[] =
    "usage: monitor [--supervised] --home HOME\n"
    "       monitor --advise\n"
    "Takes the reports of apps, shows what they do (stdout), and decides how many instances a stream app needs. `mysimbdp up` "
    "starts it.\n"
    "--supervised: also end when stdin closes. SIGTERM: end; what runs stays. SIGHUP: read the configuration again.\n"
    "--advise: what it would decide for figures on stdin, as `mysimbdp advise` does.\n"
    "Exit: 0 stopped, 1 could not start (the log says why), 2 usage.\n";

int main(int argc, char **argv)
{
    struct monitor m = {.stranger = {.id = "", .uid = -1}};
    struct err e = {0};
    daemon_prepare("monitor");
    if (argc == 2 && !strcmp(argv[1], "--advise"))
        return advise(stdin, stdout) < 0;
    const char *home;
    bool supervised = daemon_take_args(&argc, argv, usage, &home);
    if (argc != 1)
        return fputs(usage, stderr), 2;
    m.started_wall_ms = clk_wall_ms();
    m.started_ms = clk_now_ms();
    m.base = daemon_loop(MAX_CALLBACKS); /* reports that follow one another would otherwise be all that it does */
    int r = home_enter(&m.home, home, &e);
    if (r == 0)
        r = run(&m, supervised, &e);
    if (r < 0)
        log_error("start", NULL, NULL, "%s", e.msg);
    release(&m);
    event_base_free(m.base);
    home_close(&m.home);
    return r < 0;
}
