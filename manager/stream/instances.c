/* Instances: a row in the book -> spec to the spawner -> claimed, started, ended, each said by the runner (manager/live/live.h) ->
 * the row's end
 * -> runner acknowledged. What is there is compared with what should be whenever something changed; the difference is started, or
 * told to go. An instance that ends by itself is started again: at once when it was healthy, else after a delay that doubles. */
#include "book.h"
#include "manager/live/plan.h"
#include "streammgr.h"

#include "common/clk.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <xxhash.h>

enum {
    FIRST_DELAY_MS = 100,
    MAX_DELAY_MS = 60000,
    HEALTHY_MS = 10000,
    FRESH_MS = 200,    /* what the broker said of consumers is true for so long */
    READY_MS = 1000,   /* a new instance that runs so long may take the place of an old one */
    MAX_FAILURES = 20, /* in a row, none of them for want of the database: then it is parked */
    EX_TEMPFAIL = 75,
    DEFAULT_STREAM_PCT = 50,
};

/* ---- capacity ---- */

static bool has_capacity(const struct app *a, const struct conf_profile *p)
{
    const struct streammgr *m = a->mgr;
    const struct conf *c = m->conf;
    struct sysinfo si = {0};
    sysinfo(&si);
    double cpus = c->platform.capacity.cpus > 0 ? c->platform.capacity.cpus : get_nprocs();
    int64_t memory = c->platform.capacity.memory_bytes > 0 ? c->platform.capacity.memory_bytes : (int64_t)si.totalram * si.mem_unit;
    double share = (c->platform.stream_pct >= 0 ? (double)c->platform.stream_pct : DEFAULT_STREAM_PCT) / 100;
    if (!m->cpus && !m->memory_bytes)
        return share > 0; /* a request above the whole share runs alone */
    if (m->memory_bytes + p->requests.memory_bytes > (int64_t)((double)memory * share))
        return false;
    /* The host's own cores can be shared for a while, so that no app is without an instance; a number that somebody wrote down is a
     * promise. */
    return m->cpus + p->requests.cpus <= cpus * share + 1e-9 || (!a->n && c->platform.capacity.cpus < 0);
}

/* ---- apps ---- */

struct app *app_get(struct streammgr *m, const char *tenant, const char *name, bool make)
{
    AUTO_FREE char *key = xasprintf("%s/%s", tenant, name);
    struct app *a = map_get(&m->apps, key);
    if (a || !make)
        return a;
    a = xcalloc(1, sizeof *a);
    *a = (struct app){.tenant = xstrdup(tenant), .name = xstrdup(name), .mgr = m};
    map_put(&m->apps, key, a);
    return a;
}

static const struct conf_stream_app *conf_of(const struct app *a, const struct conf_tenant **ret_tenant)
{
    const struct conf_tenant *t = conf_tenant(a->mgr->conf, a->tenant);
    const struct conf_stream_app *c = t ? conf_stream_app(t, a->name) : NULL;
    *ret_tenant = t;
    return c && *c->exec ? c : NULL;
}

int64_t app_target(struct app *a, const char **ret_why)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = conf_of(a, &t);
    const struct facts *f = facts_of(a->mgr, a->tenant);
    *ret_why = !c                                   ? "not configured"
               : a->mgr->draining                   ? "the platform stops"
               : a->stopped                         ? "stopped by command"
               : !f                                 ? "the tenant is not known yet"
               : f->suspended                       ? "the tenant is suspended"
               : a->parked                          ? "parked"
               : !watcher_endpoint(a->mgr->watcher) ? "the broker is not there"
               : !f->database_up                    ? "the database is down"
                                                    : NULL;
    if (!c || a->mgr->draining || a->stopped || (f && f->suspended))
        return 0;
    if (a->order_expires_wall_ms && clk_wall_ms() >= a->order_expires_wall_ms) {
        a->order_expires_wall_ms = 0; /* what it wanted stays: a monitor that is gone changes nothing */
        log_info("order_expired", a->tenant, NULL, "app %s: the last order for %lld instances has expired; they stay", a->name,
                 (long long)a->wanted);
    }
    int64_t n = a->wanted < c->min_instances ? c->min_instances : a->wanted;
    return n > c->max_instances ? c->max_instances : n;
}

bool app_has_capacity(const struct app *a)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = conf_of(a, &t);
    return c && has_capacity(a, conf_profile(a->mgr->conf, c->profile));
}

static void park(struct app *a, const char *path, const char *why)
{
    if (a->parked)
        return;
    a->parked = xstrdup(why);
    a->parked_identity = plan_exec_identity(path);
    log_error("app_parked", a->tenant, NULL,
              "stream app %s is parked until its executable or the configuration changes, or "
              "`mysimbdp app start %s/%s`: %s",
              a->name, a->tenant, a->name, why);
}

void app_forgive(struct app *a)
{
    if (a->parked)
        log_info("app_unparked", a->tenant, NULL, "stream app %s may run again", a->name);
    xstr_set(&a->parked, NULL);
    a->delay_ms = a->not_before_ms = a->attempts = 0;
}

/* ---- the spec ---- */

static char *claim_of(const struct instance *i)
{
    return xstrdup(i->run_id);
}

static char *dir_of(const struct instance *i)
{
    return xasprintf("%s/runs/%s", i->app->mgr->home.path, i->run_id);
}

static void make_spec(const struct instance *i, const struct conf_tenant *t, const struct conf_stream_app *c, struct run_spec *ret)
{
    struct streammgr *m = i->app->mgr;
    const struct conf_profile *p = conf_profile(m->conf, c->profile);
    const struct facts *f = facts_of(m, t->id);
    const struct conf_dataset *d = *c->dataset ? conf_dataset(t, c->dataset) : NULL;
    bool stores = strcmp(c->output, "none") != 0;
    AUTO_FREE char *exec = plan_exec(&m->home, t->id, c->exec);
    struct run_spec s = {.run_id = xstrdup(i->run_id),
                         .step = xstrdup("app"),
                         .tenant = xstrdup(t->id),
                         .app = xstrdup(c->app),
                         .home = xstrdup(m->home.path),
                         .dir = dir_of(i),
                         .runtime = xstrdup(m->home.runtime),
                         .claim = claim_of(i),
                         .tag = xstrdup(m->home.tag),
                         .uid = f->uid,
                         .gid = f->uid,
                         .stdin_path = xstrdup(""),
                         .output = xstrdup("none")};
    plan_limits(&s, p);
    s.wall_s = s.cpu_s = -1; /* an instance has no end of its own */
    s.grace_s = c->drain_s;
    plan_env(&s, &p->env);
    if (!strcmp(c->exec, BUILTIN_LOAD) || stores) {
        s.exec = home_program(&m->home, "simbdp-load");
        plan_builtin(&s, &m->home);
        plan_arg(&s, "--stream");
        if (stores) {
            plan_arg(&s, "--output");
            plan_arg(&s, c->output);
            plan_arg(&s, "--");
            plan_arg(&s, exec);
        }
    } else {
        s.exec = xstrdup(exec);
    }
    for (size_t k = 0; k < c->args.n; k++)
        plan_arg(&s, c->args.v[k]);
    plan_env(&s, &c->env);
    plan_secrets(&s, &m->home, t->id, &c->secrets);
    plan_common_env(&s, &(struct plan_tenant){t->id, t->database, f->mongo_url, f->uid, f->uid}, c->app, i->run_id, i->attempt);
    run_pairs_add(&s.env, "ZMQ_STREAM_ENDPOINT", watcher_endpoint(m->watcher));
    run_pairs_add(&s.env, "SIMBDP_STREAM", c->stream);
    run_pairs_add(&s.env, "SIMBDP_DATASET", c->dataset);
    if (d) {
        AUTO_BUF struct buf spec = {0};
        struct conf_limits l = conf_effective_limits(t, d);
        conf_spec_json(d, true, l.max_row_bytes, 0, &spec);
        run_pairs_add(&s.env, "SIMBDP_SCHEMA", spec.p);
        run_pairs_add(&s.env, "SIMBDP_COLLECTION", d->collection);
    }
    *ret = s;
}

/* A number that is another when configuration, executable or database are. */
static uint64_t generation_of(struct app *a, const struct conf_tenant *t, const struct conf_stream_app *c)
{
    struct instance nobody = {.app = a};
    struct run_spec s;
    AUTO_BUF struct buf text = {0};
    AUTO_FREE char *exec = plan_exec(&a->mgr->home, t->id, c->exec);
    make_spec(&nobody, t, c, &s);
    run_spec_write(&s, &text);
    run_spec_free(&s);
    return XXH3_64bits_withSeed(text.p, text.n, (uint64_t)plan_exec_identity(exec));
}

/* ---- one instance ---- */

static void on_started(void *arg)
{
    struct instance *i = arg;
    if (i->state != INSTANCE_starting)
        return;
    i->state = INSTANCE_running;
    book_started(i->app->mgr->book, i);
}

static void unlink_instance(struct instance *i)
{
    struct app *a = i->app;
    for (struct instance **at = &a->instances; *at; at = &(*at)->next)
        if (*at == i) {
            *at = i->next;
            break;
        }
    a->n -= !i->stop;
    a->mgr->cpus -= i->cpus;
    a->mgr->memory_bytes -= i->memory_bytes;
    if (!instances_n(a->mgr))
        a->mgr->cpus = a->mgr->memory_bytes = 0; /* no rounding stays */
    live_free(i->live);
    free(i->stop);
    free(i);
}

static void delay_next(struct app *a, bool healthy)
{
    int64_t now = clk_now_ms();
    if (healthy) {
        a->delay_ms = a->attempts = 0;
        a->not_before_ms = 0; /* the first restart is at once */
        return;
    }
    /* The upper half at random, so that what failed together does not come back together. */
    a->not_before_ms = now + a->delay_ms / 2 + (a->delay_ms ? (int64_t)randombytes_uniform((uint32_t)(a->delay_ms / 2 + 1)) : 0);
    a->delay_ms = a->delay_ms ? (a->delay_ms * 2 > MAX_DELAY_MS ? MAX_DELAY_MS : a->delay_ms * 2) : FIRST_DELAY_MS;
}

static void on_ended(void *arg, struct run_result *res)
{
    struct instance *i = arg;
    struct app *a = i->app;
    struct streammgr *m = a->mgr;
    const struct conf_tenant *t;
    const struct conf_stream_app *c = conf_of(a, &t);
    bool healthy = clk_now_ms() - i->started_ms >= HEALTHY_MS;
    book_ended(m->book, i, res);
    if (i->stop) {
        log_info("instance_ended", a->tenant, i->run_id, "app %s: %s%s", a->name, i->stop,
                 res->forced ? "; it had to be killed" : "");
    } else {
        log_warn("instance_ended", a->tenant, i->run_id, "app %s ended by itself: %s, exit code %d, signal %d%s%s", a->name,
                 run_outcome_name(res->outcome), res->exit_code, res->signal, res->error ? ": " : "", res->error ? res->error : "");
        if (res->outcome == RUN_exec_error && c) {
            AUTO_FREE char *path = plan_exec(&m->home, a->tenant, c->exec);
            park(a, path, res->error ? res->error : "it cannot be executed");
        }
        delay_next(a, healthy);
        if (a->attempts >= MAX_FAILURES && res->exit_code != EX_TEMPFAIL && c) {
            AUTO_FREE char *path = plan_exec(&m->home, a->tenant, c->exec);
            AUTO_FREE char *why = xasprintf(
                "it ended %d times in a row soon after its start; `mysimbdp logs %s` has its last words", MAX_FAILURES, i->run_id);
            park(a, path, why);
        }
    }
    live_acknowledge(i->live);
    run_result_free(res);
    free(res);
    unlink_instance(i);
    app_reconcile(a);
    control_check_drained(m);
}

static void on_cancelled(void *arg, const char *why, int64_t delay_ms)
{
    struct instance *i = arg;
    struct app *a = i->app;
    struct run_result res = {.outcome = RUN_lost,
                             .exit_code = -1,
                             .signal = -1,
                             .max_rss_bytes = -1,
                             .ended_wall_ms = clk_wall_ms(),
                             .error = (char *)why};
    log_warn("instance_cancelled", a->tenant, i->run_id, "app %s: %s", a->name, why);
    book_ended(a->mgr->book, i, &res);
    if (delay_ms)
        a->not_before_ms = clk_now_ms() + delay_ms;
    unlink_instance(i);
    control_check_drained(a->mgr);
}

static const struct live_ops live_ops = {on_started, on_ended, on_cancelled};

static void add_instance(struct app *a, struct instance *i)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = conf_of(a, &t);
    const struct conf_profile *p = c ? conf_profile(a->mgr->conf, c->profile) : NULL;
    AUTO_FREE char *claim = claim_of(i), *dir = NULL;
    i->app = a;
    dir = dir_of(i);
    i->cpus = p ? p->requests.cpus : 0;
    i->memory_bytes = p ? p->requests.memory_bytes : 0;
    a->mgr->cpus += i->cpus;
    a->mgr->memory_bytes += i->memory_bytes;
    i->next = a->instances;
    a->instances = i;
    a->n++;
    i->live = live_new(a->mgr->spawner, a->tenant, i->run_id, &live_ops, i);
    live_set_step(i->live, claim, dir);
}

static int start(struct app *a, const struct conf_tenant *t, const struct conf_stream_app *c, uint64_t generation)
{
    struct instance *i = xcalloc(1, sizeof *i);
    struct run_spec spec;
    struct err e = {0};
    home_new_id(i->run_id);
    i->app = a;
    i->generation = generation;
    i->attempt = ++a->attempts;
    i->started_wall_ms = clk_wall_ms();
    i->started_ms = clk_now_ms();
    int r = book_begin(a->mgr->book, i, &e);
    if (r < 0) {
        log_error("book", a->tenant, NULL, "app %s is not started: %s", a->name, e.msg);
        a->not_before_ms = clk_now_ms() + 1000;
        free(i);
        return r;
    }
    add_instance(a, i);
    make_spec(i, t, c, &spec);
    live_start(i->live, &spec); /* may cancel it at once */
    run_spec_free(&spec);
    return 0;
}

static void tell_to_go(struct instance *i, const char *why)
{
    if (i->stop)
        return;
    i->stop = xstrdup(why);
    i->state = INSTANCE_draining;
    i->app->n--;
    live_stop(i->live);
}

/* ---- what is there, and what should be ---- */

/* One of another generation first, then who holds the least, then the youngest (the first of the list). */
static struct instance *victim(struct app *a, uint64_t generation, bool only_old)
{
    struct instance *found = NULL;
    for (struct instance *i = a->instances; i; i = i->next) {
        bool old = i->generation != generation, found_old = found && found->generation != generation;
        if (!i->stop && (old || !only_old) && (!found || old > found_old || (old == found_old && i->leased < found->leased)))
            found = i;
    }
    return found;
}

/* Whether all instances of this generation have proved themselves for a moment. */
static bool are_ready(const struct app *a, uint64_t generation)
{
    for (const struct instance *i = a->instances; i; i = i->next)
        if (!i->stop && i->generation == generation && (i->state != INSTANCE_running || clk_now_ms() - i->started_ms < READY_MS))
            return false;
    return true;
}

void app_reconcile(struct app *a)
{
    struct streammgr *m = a->mgr;
    const struct conf_tenant *t;
    const struct conf_stream_app *c = conf_of(a, &t);
    const char *why;
    int64_t target = app_target(a, &why);
    bool may_start = c && !why && spawner_is_ready(m->spawner);
    uint64_t generation = c && facts_of(m, a->tenant) && watcher_endpoint(m->watcher) ? generation_of(a, t, c) : 0;
    /* Instances of an older configuration or executable are replaced one by one: another is started beside them where max_instances
     * allows, and one goes when it runs. If the new ones fail, the old ones stay. */
    bool replacing = may_start && victim(a, generation, true);
    int64_t most = target + (replacing && target < c->max_instances);
    /* Some are to go, some to stay: who is idle is asked for, and the answer brings us here again. */
    if ((int64_t)a->n > most && most > 0 && clk_now_ms() - m->seen_ms > FRESH_MS && watcher_ask(m->watcher))
        return;
    while ((int64_t)a->n > most) {
        struct instance *i = victim(a, generation, false);
        if (!i)
            break;
        tell_to_go(i, !c ? "no longer configured" : why ? why : "fewer are wanted");
    }
    if (!may_start)
        return;
    const struct conf_profile *p = conf_profile(m->conf, c->profile);
    if (replacing && are_ready(a, generation) && ((int64_t)a->n > target || most == target))
        tell_to_go(victim(a, generation, true), "replaced: its configuration or executable changed");
    if (replacing)
        streammgr_wake_in(m, READY_MS);
    int64_t now = clk_now_ms();
    if ((int64_t)a->n < most && now < a->not_before_ms)
        streammgr_wake_in(m, a->not_before_ms - now);
    while ((int64_t)a->n < most && clk_now_ms() >= a->not_before_ms && has_capacity(a, p))
        if (start(a, t, c, generation) < 0)
            break;
}

void instances_reconcile(struct streammgr *m)
{
    for (size_t k = 0; k < m->conf->n_tenants; k++) {
        const struct conf_stream_app *c = m->conf->tenants[k].stream_apps.v;
        for (size_t i = 0; i < m->conf->tenants[k].stream_apps.n; i++)
            if (*c[i].exec)
                app_get(m, m->conf->tenants[k].id, c[i].app, true);
    }
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));) {
        const struct conf_tenant *t;
        const struct conf_stream_app *c = conf_of(a, &t);
        AUTO_FREE char *path = c ? plan_exec(&m->home, a->tenant, c->exec) : NULL;
        if (a->parked && path && plan_exec_identity(path) != a->parked_identity)
            app_forgive(a);
        app_reconcile(a);
    }
}

void instances_stop(struct streammgr *m, struct app *only, const char *why)
{
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (struct instance *i = a->instances; i; i = i->next)
            if (!only || a == only)
                tell_to_go(i, why);
}

bool instance_stop(struct app *a, const char *run_id, const char *why)
{
    for (struct instance *i = a->instances; i; i = i->next)
        if (!strcmp(i->run_id, run_id)) {
            tell_to_go(i, why);
            app_reconcile(a);
            return true;
        }
    return false;
}

/* The instance that a process is of: its environment says so. */
static struct instance *instance_of(struct app *a, int64_t pid)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *path = xasprintf("/proc/%lld/environ", (long long)pid);
    static const char name[] = "SIMBDP_INSTANCE_ID=";
    if (pid <= 0 || fd_read_file(AT_FDCWD, path, &b, 4 << 20, NULL) < 0)
        return NULL;
    for (const char *p = b.p, *end = b.p + b.n; p < end; p += strnlen(p, (size_t)(end - p)) + 1)
        if (!strncmp(p, name, sizeof name - 1))
            for (struct instance *i = a->instances; i; i = i->next)
                if (!strcmp(i->run_id, p + sizeof name - 1))
                    return i;
    return NULL;
}

void instances_see_consumers(struct streammgr *m, const bson_iter_t *consumers)
{
    bson_iter_t it = *consumers;
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (struct instance *i = a->instances; i; i = i->next)
            i->leased = -1;
    while (bson_iter_next(&it)) {
        bson_t doc;
        if (!json_iter_doc(&it, &doc))
            continue;
        struct app *a = app_get(m, json_get_str(&doc, "tenant_id", ""), json_get_str(&doc, "app", ""), false);
        struct instance *i = a ? instance_of(a, json_get_i64(&doc, "pid", -1)) : NULL;
        int64_t ran_out = json_get_i64(&doc, "ran_out", 0);
        if (!i)
            continue;
        i->leased = (i->leased > 0 ? i->leased : 0) + json_get_i64(&doc, "leased", 0);
        if (ran_out > 0 && !i->stop) {
            log_warn("instance_hangs", a->tenant, i->run_id,
                     "app %s: the leases of %lld messages ran out, and nothing was heard of it since", a->name, (long long)ran_out);
            tell_to_go(i, "it hangs: its leases ran out");
        }
    }
    m->seen_ms = clk_now_ms();
    instances_reconcile(m);
}

size_t instances_n(const struct streammgr *m)
{
    size_t at = 0, n = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (const struct instance *i = a->instances; i; i = i->next)
            n++;
    return n;
}

/* ---- recovery ---- */

static void take_up(void *arg, const char *run_id, const char *tenant, const char *name, uint64_t generation, int64_t attempt,
                    int64_t started_wall_ms)
{
    struct instance *i = xcalloc(1, sizeof *i);
    struct app *a = app_get(arg, tenant, name, true);
    snprintf(i->run_id, sizeof i->run_id, "%s", run_id);
    i->generation = generation;
    i->attempt = attempt;
    i->started_wall_ms = started_wall_ms;
    i->started_ms = clk_now_ms() - (clk_wall_ms() - started_wall_ms);
    add_instance(a, i);
}

static void take_stopped(void *arg, const char *tenant, const char *name)
{
    app_get(arg, tenant, name, true)->stopped = true;
}

int instances_recover(struct streammgr *m, struct err *e)
{
    size_t at = 0, n = 0;
    int r = book_each_live(m->book, take_up, m, e);
    if (r == 0)
        r = book_each_stopped(m->book, take_stopped, m, e);
    if (r < 0)
        return r;
    for (struct app *a; (a = map_next(&m->apps, &at));) {
        a->wanted = (int64_t)a->n; /* as many as there were: nothing is started or ended for our being new */
        for (struct instance *i = a->instances, *next; i; i = next, n++) {
            next = i->next;
            live_resolve(i->live); /* may find that it ended */
        }
    }
    if (n)
        log_info("recovered", NULL, NULL, "%zu instances of an earlier streammgr", n);
    return 0;
}

void instances_free(struct streammgr *m)
{
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));) {
        while (a->instances)
            unlink_instance(a->instances);
        free(a->tenant);
        free(a->name);
        free(a->parked);
        free(a);
    }
    map_fini(&m->apps);
}
