#include "purge.h"
#include "bill.h"
#include "cross_device.h"
#include "databases.h"
#include "deletions.h"
#include "duplicates.h"
#include "fair_queue.h"
#include "filing.h"
#include "ledger.h"
#include "ledger_moves.h"
#include "moving.h"
#include "release.h"
#include "reload.h"
#include "runs.h"
#include "state.h"
#include "stream_sums.h"
#include "tenants.h"
#include "uploads.h"

#include "manager/spawner.h"

#include "base/crash.h"
#include "db/tenants.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/timer.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { POLL_MS = 50, DATA_RETRY_MS = 1000 };

struct purges {
    struct map going; /* tenant -> struct purge */
};

struct purge {
    struct batchmgr *m;
    char *tenant;
    enum { STOPPING, DATA, FILES, FORGETTING } step;
    bool deleting, removed, failed;
    bool moved; /* its rows are another home's: it bills them */
    char why[256];
    void (*done)(void *arg, const struct err *e); /* NULL: nobody waits, or does not any more */
    void *arg;
    struct event *timer;
    pthread_t thread;
    bool has_thread;
};

static void step(struct purge *p);

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    step(arg);
}

/* No row of the tenant's is on its way to the ledger any more. */
static void on_flushed(void *arg)
{
    step(arg);
}

static void later(struct purge *p, int64_t ms)
{
    timer_set(p->timer, ms);
}

/* ---- stop ---- */

static void refuse(void *arg, struct file *f)
{
    struct batchmgr *m = arg;
    for (struct file *next; f; f = next) {
        next = file_take_mate(f);
        duplicates_unindex(m, f);
        filing_finish(m, f, FILE_rejected, "tenant_removed", "the tenant was removed", NULL);
    }
}

/* Files that wait for something get their end; those in the middle of a step get it where the step ends (admit.c). True when
 * nothing of the tenant's is left. */
static bool sweep(struct purge *p)
{
    struct batchmgr *m = p->m;
    struct tenant *t = tenant_get(m, p->tenant);
    size_t i = 0;
    bool any = runs_order_stop_all(m, p->tenant, RUN_STOP_person) > 0;
    uploads_abort_all(m, p->tenant);
    release_drain(m, p->tenant, refuse, m);
    fair_queue_drain_tenant(m->fair_queue, p->tenant, refuse, m);
    for (struct file *f; (f = file_list_take(&t->inspections));) {
        cross_device_forget(f);
        if (file_state_is_final(f->state))
            filing_resume(m, f); /* to where it is deleted with the tenant */
        else
            refuse(m, f);
    }
    i = 0;
    for (struct file *f; (f = map_next(&m->files, &i));)
        if (!strcmp(f->tenant, p->tenant)) {
            any = true;
            if (f->timer && !f->lead && (f->state == FILE_waiting || f->state == FILE_received))
                refuse(m, f);
        }
    return !any;
}

/* ---- data ---- */

static void on_dropped(void *arg, enum deletion_end end)
{
    struct purge *p = arg;
    p->deleting = false;
    if (end == DELETION_DONE)
        p->step = FILES;
    else if (end == DELETION_FAILED)
        log_warn("purge", p->tenant, NULL, "its collections could not be dropped yet; trying again");
    later(p, end == DELETION_DONE ? 0 : DATA_RETRY_MS);
}

static void drop_data(struct purge *p)
{
    struct batchmgr *m = p->m;
    const struct conf_tenant *c = conf_tenant(m->conf, p->tenant);
    struct tenant *t = tenant_get(m, p->tenant);
    const bool shared = ledger_moves(m->ledger, p->tenant) & TENANT_SHARED;
    if (!c || *c->mongo_url || shared) {
        log_info("purge", p->tenant, NULL, "%s",
                 shared ? "its data is used by the home that it was moved to or from, and stays"
                 : c    ? "its data lies on its own MongoDB and stays there"
                        : "its configuration is gone, so its database is not known and stays");
        p->step = FILES;
        step(p);
        return;
    }
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_i64(&b, "v", 2);
    json_str(&b, "tenant", c->id);
    json_str(&b, "database", c->database);
    json_bool(&b, "drop_all", true);
    json_end(&b, '}');
    p->deleting = databases_serve(t) && deletions_begin(m, t, b.p, on_dropped, p);
    if (!p->deleting)
        later(p, DATA_RETRY_MS);
}

/* ---- files ---- */

static int remove_run(void *arg, const char *run_id, struct err *e)
{
    struct purge *p = arg;
    int r = fd_remove_tree(p->m->runs_fd, run_id);
    return r < 0 ? err_sys(e, r, "cannot remove runs/%s", run_id) : 0;
}

static void *remove_all(void *arg)
{
    struct purge *p = arg;
    static const char *const places[] = {"staging", "done", "quarantine", "logs/tenants"};
    struct err e = {0};
    pthread_mutex_lock(&stream_sums_lock);
    int r = p->moved ? 0 : bill_streams(&p->m->home, p->tenant, &e);
    for (size_t i = 0; r == 0 && i < sizeof places / sizeof *places; i++) {
        AUTO_FREE char *path = xasprintf("%s/%s", places[i], p->tenant);
        r = fd_remove_tree(p->m->home.dirfd, path);
        if (r < 0)
            err_sys(&e, r, "cannot remove %s", path);
    }
    pthread_mutex_unlock(&stream_sums_lock);
    if (r == 0 && job_wait(p->m->spawner, WARDEN_FORGET, p->tenant, 0) != 0)
        r = err_set(&e, ERR_REFUSED,
                    "the warden cannot remove the tenant's apps, secrets and images (its line in the log says why)");
    crash_at(CRASH_purge_files);
    if (r == 0)
        r = ledger_purge(&p->m->home, p->tenant, !p->moved, remove_run, p, &e);
    crash_at(CRASH_purge_rows);
    p->failed = r < 0;
    snprintf(p->why, sizeof p->why, "%s", e.msg);
    event_active(p->timer, EV_TIMEOUT, 0);
    return NULL;
}

/* What could not be filed away (cross_device.h). */
static void discard_left(struct purge *p)
{
    char **ids = ledger_left_in_work(p->m->ledger, p->tenant, INT64_MAX, -1);
    for (char **id = ids; *id; free(*id++)) {
        AUTO_FREE char *path = xasprintf("work/%s", *id);
        spawner_discard(p->m->spawner, p->m->home.dirfd, path);
    }
    free(ids);
}

static void remove_files(struct purge *p)
{
    if (!p->has_thread) {
        discard_left(p);
        p->moved = moving_is_held(p->m, p->tenant);
        p->has_thread = pthread_create(&p->thread, NULL, remove_all, p) == 0;
        if (!p->has_thread)
            later(p, DATA_RETRY_MS);
        return;
    }
    pthread_join(p->thread, NULL);
    p->has_thread = false;
    if (p->failed) {
        log_error("purge", p->tenant, NULL, "%s; trying again", p->why);
        later(p, DATA_RETRY_MS);
        return;
    }
    p->step = FORGETTING;
    step(p);
}

/* ---- forget ---- */

static void tell(struct purge *p, const struct err *e)
{
    if (p->done)
        p->done(p->arg, e);
    p->done = NULL;
}

static void purge_free(struct purge *p)
{
    event_free(p->timer);
    map_remove(&p->m->purges->going, p->tenant);
    free(p->tenant);
    free(p);
}

static void forget(struct purge *p)
{
    struct batchmgr *m = p->m;
    struct tenant *t = tenant_get(m, p->tenant);
    struct err e = {0};
    if (ledger_set_purging(m->ledger, p->tenant, 2, &e) < 0) {
        log_error("purge", p->tenant, NULL, "%s; trying again", e.msg);
        later(p, DATA_RETRY_MS);
        return;
    }
    if (job_wait(m->spawner, WARDEN_FORGET, p->tenant, 1) != 0) {
        log_error("purge", p->tenant, NULL, "the warden cannot remove its configuration; trying again");
        later(p, DATA_RETRY_MS);
        return;
    }
    crash_at(CRASH_purge_conf);
    t->purging = t->configured = t->suspended = false;
    t->moves = 0;
    t->purged = true;
    if (reload(m, &e) < 0) /* another tenant's file may be broken; this tenant is removed all the same */
        log_warn("purge", p->tenant, NULL, "the configuration in force still has it: %s", e.msg);
    log_info("purged", p->tenant, NULL, "everything it had was removed");
    tell(p, NULL);
    purge_free(p);
}

static void step(struct purge *p)
{
    switch (p->step) {
    case STOPPING:
        if (!sweep(p)) {
            later(p, POLL_MS);
            break;
        }
        p->step = DATA;
        ledger_then(p->m->ledger, on_flushed, p, NULL);
        break;
    case DATA:
        if (!p->deleting)
            drop_data(p);
        break;
    case FILES:
        remove_files(p);
        break;
    case FORGETTING:
        forget(p);
        break;
    }
}

static void begin(struct batchmgr *m, const char *tenant, void (*done)(void *arg, const struct err *e), void *arg)
{
    struct purge *p = xcalloc(1, sizeof *p);
    *p = (struct purge){.m = m, .tenant = xstrdup(tenant), .done = done, .arg = arg};
    p->timer = event_new(m->base, -1, 0, on_timer, p);
    map_put(&m->purges->going, tenant, p);
    struct tenant *t = tenant_get(m, tenant);
    t->purging = true;
    fair_queue_block_tenant(m->fair_queue, tenant, true);
    databases_forget(m->databases, tenant);
    log_info("purge", tenant, NULL, "everything it has is being removed");
    later(p, 0);
}

int purge_begin(struct batchmgr *m, const char *tenant, void (*done)(void *arg, const struct err *e), void *arg, struct err *e)
{
    if (map_get(&m->purges->going, tenant))
        return err_set(e, ERR_REFUSED, "tenant %s is being removed already", tenant);
    if (!map_get(&m->tenants, tenant))
        return err_set(e, ERR_REFUSED, "no tenant \"%s\"; `mysimbdp tenant list` shows them", tenant);
    int r = ledger_set_purging(m->ledger, tenant, 1, e);
    crash_at(CRASH_purge_mark);
    if (r == 0)
        begin(m, tenant, done, arg);
    return r;
}

void purge_resume(struct batchmgr *m)
{
    char **ids = ledger_purging(m->ledger);
    for (char **id = ids; *id; id++) {
        begin(m, *id, NULL, NULL);
        free(*id);
    }
    free(ids);
}

const char *purge_phase(const struct batchmgr *m, const char *tenant)
{
    static const char *const phases[] = {[STOPPING] = "its runs end",
                                         [DATA] = "its collections are dropped",
                                         [FILES] = "its files are removed",
                                         [FORGETTING] = "its configuration is removed"};
    const struct purge *p = m->purges ? map_get(&m->purges->going, tenant) : NULL;
    return p ? phases[p->step] : NULL;
}

void purge_put_off(struct batchmgr *m)
{
    size_t i = 0;
    for (struct purge *p; (p = map_next(&m->purges->going, &i));) {
        struct err e = {0};
        err_set(&e, ERR_REFUSED, "the platform is going down; the rest of what tenant %s has goes with its next start", p->tenant);
        tell(p, &e);
    }
}

void purge_start(struct batchmgr *m)
{
    m->purges = xcalloc(1, sizeof *m->purges);
}

void purge_stop(struct batchmgr *m)
{
    if (!m->purges)
        return;
    purge_put_off(m);
    size_t i = 0;
    for (struct purge *p; (p = map_next(&m->purges->going, &i));) {
        if (p->has_thread)
            pthread_join(p->thread, NULL);
        purge_free(p);
    }
    map_fini(&m->purges->going);
    free(m->purges);
    m->purges = NULL;
}
