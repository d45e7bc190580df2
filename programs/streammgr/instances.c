/* Instances: a row in the book -> spec to the spawner -> claimed, started, ended, each said by the runner
 * (lib/manager/run_handle.h) -> the row's end -> runner acknowledged. What is there is compared with what should be whenever
 * something changed; the difference is started, or told to go. An instance that ends by itself is started again: at once the first
 * time, then after a delay that doubles (apps.c).
 *
 * Told to go, an instance gets no more messages from the broker, has drain_s to finish those it holds, then SIGTERM, and
 * after drain_s again SIGKILL. One that hangs gets SIGTERM at once. */
#include "book.h"
#include "decide.h"
#include "streammgr.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum {
    FRESH_MS = 5, /* what the broker said of consumers is true for so long */
    DRAIN_TICK_MS = 20,
    READY_MS = 1000,    /* a new instance that runs so long may take the place of an old one */
    UNREADY_MS = 30000, /* one that does not by then is told of */
};

/* ---- one instance ---- */

static void set_state(struct instance *i, enum instance_state next)
{
    static const char *const names[] = {"starting", "running", "draining"};
    assert(next > i->state); /* none comes back; its end is the end of the struct */
    log_debug("state", i->app->tenant, i->run_id, "%s -> %s", names[i->state], names[next]);
    i->state = next;
}

static void on_started(void *arg)
{
    struct instance *i = arg;
    if (i->state != INSTANCE_starting)
        return;
    set_state(i, INSTANCE_running);
    book_started(i->app->mgr->book, i);
}

bool instance_is_scaled(const struct instance *i)
{
    return !i->stop && !*i->ask;
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
    a->mgr->cpus -= i->cpus;
    a->mgr->memory_bytes -= i->memory_bytes;
    if (!instances_of(a->mgr, NULL))
        a->mgr->cpus = a->mgr->memory_bytes = 0; /* no rounding stays */
}

static void free_instance(struct instance *i)
{
    run_handle_free(i->handle);
    free(i->stop);
    free(i);
}

static void on_ended(void *arg, struct run_result *res)
{
    struct instance *i = arg;
    struct app *a = i->app;
    struct streammgr *m = a->mgr;
    crash_at(CRASH_instance_end_seen);
    if (i->stop && res->outcome == RUN_killed && !res->forced)
        res->outcome = RUN_ok; /* it ended as it was told to */
    if (!i->stop)
        app_take_words(res);
    book_ended(m->book, i, res);
    crash_at(CRASH_instance_end_noted);
    unlink_instance(i);
    if (*i->ask)
        ask_note_end(a, i, res);
    else if (!i->stop)
        app_note_failure(a, i, res);
    app_reconcile(a);
    /* Another may be starting by now; what follows can wait. */
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
                             .network_refused = -1,
                             .ended_wall_ms = clk_wall_ms(),
                             .error = (char *)why};
    log_warn("instance_cancelled", a->tenant, i->run_id, "app %s: %s", a->name, why);
    book_ended(a->mgr->book, i, &res);
    if (*i->ask)
        ask_note_cancelled(a, i, delay_ms);
    else
        a->not_before_ms = clk_now_ms() + delay_ms;
    unlink_instance(i);
    free_instance(i);
    streammgr_wake_in(a->mgr, delay_ms);
    control_check_drained(a->mgr);
}

static const struct run_handle_ops handle_ops = {on_started, on_ended, on_cancelled};

static void add_instance(struct app *a, struct instance *i)
{
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    const struct conf_profile *p = c ? conf_profile(a->mgr->conf, c->profile) : NULL;
    AUTO_FREE char *dir = xasprintf("%s/runs/%s", a->mgr->home.path, i->run_id);
    i->app = a;
    i->leased = -1;
    i->cpus = p ? p->requests.cpus : 0;
    i->memory_bytes = p ? p->requests.memory_bytes : 0;
    a->mgr->cpus += i->cpus;
    a->mgr->memory_bytes += i->memory_bytes;
    i->next = a->instances;
    a->instances = i;
    a->n += instance_is_scaled(i);
    i->handle = run_handle_new(a->mgr->spawner, a->tenant, i->run_id, &handle_ops, i);
    run_handle_set_step(i->handle, i->run_id, dir);
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
    i->generation = spec_generation(a);
    i->attempt = a->failures + 1;
    i->started_wall_ms = clk_wall_ms();
    i->started_ms = clk_now_ms();
    int r = book_begin(a->mgr->book, i, e);
    if (r < 0) {
        log_error("book", a->tenant, NULL, "app %s is not started: %s", a->name, e->msg);
        free(i);
        return r;
    }
    crash_at(CRASH_instance_begin);
    add_instance(a, i);
    spec_make(i, t, c, &spec);
    run_handle_start(i->handle, &spec); /* may cancel it at once */
    run_spec_free(&spec);
    return 0;
}

/* At once, or when it has finished what it holds. */
enum manner { AT_ONCE, GENTLY };

static void send_term(struct instance *i)
{
    i->term_at_ms = 0;
    run_handle_stop(i->handle);
}

static void tell_to_go(struct instance *i, enum manner manner, const char *why)
{
    struct app *a = i->app;
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    if (i->stop)
        return;
    i->stop = xstrdup(why);
    set_state(i, INSTANCE_draining);
    a->n -= !*i->ask;
    book_draining(a->mgr->book, i);
    crash_at(CRASH_instance_drain);
    if (manner == GENTLY && i->n_sessions && c && c->drain_s > 0) {
        i->term_at_ms = clk_now_ms() + c->drain_s * 1000;
        watcher_ask(a->mgr->watcher);
        streammgr_wake_in(a->mgr, DRAIN_TICK_MS);
    } else {
        send_term(i);
    }
}

/* Those that finish what they hold: are they done, or is their time over? */
static void look_at_draining(struct streammgr *m)
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

/* ---- what is there, and what should be ---- */

bool instance_is_ready(const struct instance *i)
{
    bool others_consume = false;
    for (const struct instance *k = i->app->instances; k; k = k->next)
        others_consume |= k->consumes;
    return i->state == INSTANCE_running && (i->consumes || (!others_consume && clk_now_ms() - i->started_ms >= READY_MS));
}

/* One of another generation first, then one that is not ready, then who holds the least, then the youngest (the first of the
 * list). */
static struct instance *victim(struct app *a, uint64_t generation, bool only_old)
{
    struct instance *found = NULL;
    int64_t found_rank = 0;
    for (struct instance *i = a->instances; i; i = i->next) {
        bool old = i->generation != generation;
        int64_t rank = 2 * old + !instance_is_ready(i);
        if (!instance_is_scaled(i) || (only_old && !old))
            continue;
        if (!found || rank > found_rank || (rank == found_rank && i->leased < found->leased)) {
            found = i;
            found_rank = rank;
        }
    }
    return found;
}

/* For a moment, too. */
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
    return ready && age >= READY_MS;
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

/* Room for the first instance of an app: one goes of the app that has the most beyond its first and its minimum. */
static void make_room(struct app *needy)
{
    struct streammgr *m = needy->mgr;
    struct app *rich = NULL;
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));) {
        const struct conf_tenant *t;
        const struct conf_stream_app *c = app_conf(a, &t);
        for (const struct instance *i = a->instances; i; i = i->next)
            if (i->stop)
                return; /* there will be room soon */
        if (c && a->n > 1 && (int64_t)a->n > c->min_instances && (!rich || a->n > rich->n))
            rich = a;
    }
    if (!rich)
        return;
    AUTO_FREE char *why = xasprintf("it makes room for the first instance of %s/%s", needy->tenant, needy->name);
    tell_to_go(victim(rich, spec_generation(rich), false), GENTLY, why);
}

static bool needs_first(struct app *a)
{
    const char *why;
    return !a->n && app_target(a, &why) > 0 && !why;
}

/* False: not now; somebody will come back to it. */
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
    if (m->starving && a->n)
        return false;
    if (!app_has_capacity(a, conf_profile(m->conf, c->profile))) {
        if (!a->n) {
            m->starving = true;
            make_room(a);
        }
        return false;
    }
    if (instance_start(a, NULL, &e) == 0)
        return spawner_is_ready(m->spawner);
    a->not_before_ms = clk_now_ms() + 1000;
    return false;
}

void app_reconcile(struct app *a)
{
    struct streammgr *m = a->mgr;
    const struct conf_tenant *t;
    const struct conf_stream_app *c = app_conf(a, &t);
    const char *why;
    app_look_at_image(a);
    asks_reconcile(a);
    int64_t target = app_target(a, &why);
    bool may_start = c && !why && spawner_is_ready(m->spawner), go_on = true;
    uint64_t generation = spec_generation(a);
    while (go_on) {
        struct app_view v = view_of(a, target, may_start, generation);
        switch (decide(&v)) {
        case DECIDE_start:
            go_on = start_one(a);
            break;
        case DECIDE_drain:
            /* Some are to go, some to stay: who is idle is asked for, and the answer brings us here again. */
            if (target && clk_now_ms() - m->seen_ms > FRESH_MS && watcher_ask(m->watcher))
                return;
            tell_to_go(victim(a, generation, false), GENTLY, target ? "fewer are wanted" : why ? why : "none is wanted");
            break;
        case DECIDE_drain_old:
            tell_to_go(victim(a, generation, true), GENTLY, "replaced: its configuration or executable changed");
            break;
        case DECIDE_nothing:
            go_on = false;
        }
        if (v.n_old_ready + v.n_old_unready && may_start)
            streammgr_wake_in(m, READY_MS / 4);
    }
}

void instances_reconcile(struct streammgr *m)
{
    for (size_t k = 0; k < m->conf->n_tenants; k++) {
        const struct conf_stream_app *c = m->conf->tenants[k].stream_apps.v;
        for (size_t i = 0; i < m->conf->tenants[k].stream_apps.n; i++)
            if (*c[i].exec)
                app_get(m, m->conf->tenants[k].id, c[i].app, true);
    }
    look_at_draining(m);
    m->starving = false;
    for (int first = 1; first >= 0; first--) { /* those that have none go first */
        size_t at = 0;
        for (struct app *a; (a = map_next(&m->apps, &at));) {
            if (first)
                app_unpark_if_due(a);
            if (needs_first(a) == first)
                app_reconcile(a);
        }
    }
}

void instances_stop(struct streammgr *m, struct app *only, const char *why)
{
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (struct instance *i = a->instances; i; i = i->next)
            if (!only || a == only)
                tell_to_go(i, GENTLY, why);
}

void instance_stop(struct instance *i, const char *why)
{
    tell_to_go(i, GENTLY, why);
}

size_t instances_of(const struct streammgr *m, const char *tenant)
{
    size_t at = 0, n = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (const struct instance *i = a->instances; i && (!tenant || !strcmp(a->tenant, tenant)); i = i->next)
            n++;
    return n;
}

/* ---- what the broker sees of them ---- */

/* The instance that a process is of: its environment says so, which the warden may read. */
static struct instance *instance_of(struct app *a, int64_t pid)
{
    char id[ID_SIZE] = "";
    if (pid <= 0 ||
        spawner_ask(a->mgr->spawner, &(struct warden_request){.op = WARDEN_WHOSE, .number = pid}, NULL, id, sizeof id - 1) <= 0)
        return NULL;
    for (struct instance *i = a->instances; i; i = i->next)
        if (!strcmp(i->run_id, id))
            return i;
    return NULL;
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
    struct instance *i = a ? instance_of(a, json_get_i64(doc, "pid", -1)) : NULL;
    int64_t ran_out = json_get_i64(doc, "ran_out", 0);
    if (!i)
        return;
    if (!i->consumes) {
        i->consumes = true;
        book_consumes(m->book, i);
    }
    i->leased = (i->leased > 0 ? i->leased : 0) + json_get_i64(doc, "leased", 0);
    if (i->n_sessions < MAX_SESSIONS)
        i->sessions[i->n_sessions++] = (uint64_t)json_get_i64(doc, "session", 0);
    if (ran_out > 0 && !i->stop) {
        log_warn("instance_hangs", a->tenant, i->run_id,
                 "app %s: the leases of %lld messages ran out, and nothing was heard of it since", a->name, (long long)ran_out);
        tell_to_go(i, AT_ONCE, "it hangs: its leases ran out");
    }
}

/* A process that stands still loses its connection before its leases run out. */
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
            tell_to_go(i, AT_ONCE, "it hangs: its connection is gone");
        }
    }
}

void instances_broker_gone(struct streammgr *m)
{
    size_t at = 0;
    m->seen_ms = 0;
    forget_consumers(m);
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (struct instance *i = a->instances; i; i = i->next)
            i->absent_ms = 0;
}

void instances_see_consumers(struct streammgr *m, const bson_iter_t *consumers)
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
    instances_reconcile(m);
}

void instances_activate(struct streammgr *m, const char *tenant, const char *name)
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
    if (book_put_app(m->book, a, &e) < 0)
        log_error("book", tenant, NULL, "%s", e.msg);
    log_info("activated", tenant, NULL, "app %s: a message waits", name);
    app_reconcile(a);
}

bool instances_held(struct streammgr *m, struct buf *out)
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

/* ---- recovery ---- */

static void take_up(void *arg, const struct book_instance *b)
{
    struct instance *i = xcalloc(1, sizeof *i);
    struct app *a = app_get(arg, b->tenant, b->app, true);
    snprintf(i->run_id, sizeof i->run_id, "%s", b->run_id);
    snprintf(i->ask, sizeof i->ask, "%s", b->ask ? b->ask : "");
    i->generation = b->generation;
    i->attempt = b->attempt;
    i->started_wall_ms = b->started_wall_ms;
    i->started_ms = clk_now_ms() - (clk_wall_ms() - b->started_wall_ms);
    i->consumes = b->consumes;
    i->stop = xstrdup(b->stop);
    if (i->stop)
        i->state = INSTANCE_draining;
    add_instance(a, i);
    if (i->stop)
        run_handle_stop(i->handle);
}

static void take_app(void *arg, const struct book_app *b)
{
    struct app *a = app_get(arg, b->tenant, b->app, true);
    a->pinned = b->pinned;
    a->wanted = b->wanted; /* as many as there were: nothing is started or ended for our being new */
    a->least = b->least;
    a->stopped = b->stopped;
    a->args = xstrdup(b->args);
}

static void take_ask(void *arg, const char *tenant, const char *app, const char *id, const char *args)
{
    ask_add(app_get(arg, tenant, app, true), id, args);
}

/* The end of these is in the book, but their runners were not told. */
static bool is_ended(void *arg, const char *claim)
{
    return book_is_ended(arg, claim);
}

int instances_read(struct streammgr *m, struct err *e)
{
    int r = book_each_app(m->book, take_app, m, e);
    if (r == 0)
        r = book_each_ask(m->book, take_ask, m, e);
    return r < 0 ? r : book_each_live(m->book, take_up, m, e);
}

int instances_recover(struct streammgr *m, struct err *e)
{
    size_t at = 0, n = 0;
    int r = instances_read(m, e);
    if (r < 0)
        return r;
    for (struct app *a; (a = map_next(&m->apps, &at));)
        for (struct instance *i = a->instances, *next; i; i = next, n++) {
            next = i->next;
            run_handle_resolve(i->handle); /* may find that it ended */
        }
    run_handle_dismiss_ended(&m->home, is_ended, m->book);
    if (n)
        log_info("recovered", NULL, NULL, "%zu instances of an earlier streammgr", n);
    return 0;
}

void instances_free(struct streammgr *m)
{
    size_t at = 0;
    for (struct app *a; (a = map_next(&m->apps, &at));) {
        while (a->instances) {
            struct instance *i = a->instances;
            unlink_instance(i);
            free_instance(i);
        }
        asks_free(a);
        free(a->tenant);
        free(a->name);
        free(a->args);
        free(a->image);
        free(a->parked);
        free(a->last_end);
        free(a);
    }
    map_fini(&m->apps);
}
