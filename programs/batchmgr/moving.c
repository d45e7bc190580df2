/* Held first, in the ledger, then emptied: a batchmgr that is killed anywhere between comes back with the tenant held and none of
 * its files in memory (recover.c), and who asked asks again.
 *
 * What is let go of is only what lies still: queued files, those that wait for a time or behind the same content. All others reach
 * such a state, or their end, by themselves within a step; runs are asked to end, and nothing is let go of before the last of them
 * is acknowledged, since a run refers to its files. A file that is just being claimed out of staging/ is waited for, too. */
#include "moving.h"
#include "cross_device.h"
#include "databases.h"
#include "duplicates.h"
#include "fair_queue.h"
#include "files.h"
#include "intake.h"
#include "ledger.h"
#include "ledger_moves.h"
#include "recover.h"
#include "release.h"
#include "runs.h"
#include "staging.h"
#include "tenants.h"
#include "turn.h"
#include "uploads.h"

#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/tenants.h"
#include "loop/ctl.h"
#include "loop/timer.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { POLL_MS = 20, MOVING_RETRY_S = 5 };

/* Of one tenant at a time: a hold, or rows that are taken. */
struct moving {
    struct batchmgr *m;
    char *tenant, *path; /* path: of the rows; NULL: a hold */
    struct ctl_conn *c;
    struct event *timer;
    bool flushing, ended; /* ended: the thread is done */
    pthread_t thread;
    struct err why;
    int r;
};

struct movings {
    struct map going; /* tenant -> struct moving */
};

/* ---- what is known of tenants ---- */

void moving_look(struct batchmgr *m, struct tenant *t)
{
    t->moves = ledger_moves(m->ledger, t->id);
    free(t->moved_to);
    t->alone = ledger_is_alone(m->ledger, t->id);
    t->moved_to = t->moves & TENANT_MOVED ? ledger_moved_to(m->ledger, t->id) : NULL;
}

bool moving_is_held(struct batchmgr *m, const char *tenant)
{
    const struct tenant *t = map_get(&m->tenants, tenant);
    return (t && t->configured ? t->moves : ledger_moves(m->ledger, tenant)) & (TENANT_HELD | TENANT_MOVED);
}

int moving_refuse(struct batchmgr *m, const char *tenant, struct err *e)
{
    const struct tenant *t = map_get(&m->tenants, tenant);
    if (!moving_is_held(m, tenant))
        return 0;
    if (t && t->moves & TENANT_MOVED)
        return err_refuse(e, "moved", 0, "tenant %s was moved to %s: it is served there", tenant,
                          t->moved_to ? t->moved_to : "another home");
    return err_refuse(e, "moving", MOVING_RETRY_S, "tenant %s is being moved to another home; try again in some seconds", tenant);
}

/* What it means for the tenant that its bits changed. */
static int apply(struct batchmgr *m, struct tenant *t, struct err *e)
{
    t->suspended = ledger_is_suspended(m->ledger, t->id);
    moving_look(m, t);
    databases_moved(m->databases, t);
    int r = t->configured ? staging_add_tenant(m, t, e) : 0; /* closed while it is held */
    intake_rescan(m);
    turn_kick(m);
    return r;
}

/* ---- standing still ---- */

static void let_go(void *arg, struct file *f)
{
    struct batchmgr *m = arg;
    for (struct file *next; f; f = next) {
        next = file_take_mate(f);
        file_timer_stop(f);
        duplicates_unindex(m, f);
        file_remove(m, f);
        file_free(f);
    }
}

static bool lies_still(const struct file *f)
{
    if (f->lead || f->list || f->place != PLACE_work || f->retrying)
        return false;
    return (f->timer && f->state == FILE_received) || (f->state == FILE_waiting && (f->timer || f->behind));
}

/* One that is read waits for its turn only; one that is to be copied goes on. */
static void empty_inspections(struct batchmgr *m, struct tenant *t)
{
    struct file_list on = {0};
    for (struct file *f; (f = file_list_take(&t->inspections));) {
        if (f->state == FILE_received && f->place == PLACE_work && !f->unsynced)
            let_go(m, f);
        else
            file_list_add(&on, f);
    }
    for (struct file *f; (f = file_list_take(&on));)
        file_list_add(&t->inspections, f);
}

/* True when nothing of the tenant's is left in memory. */
static bool empty(struct moving *v)
{
    struct batchmgr *m = v->m;
    struct tenant *t = tenant_get(m, v->tenant);
    AUTO_FREE struct file **still = xcalloc(m->files.n + 1, sizeof *still);
    size_t i = 0, n = 0;
    bool any = false;
    uploads_abort_all(m, v->tenant);
    if (runs_order_stop_all(m, v->tenant, RUN_STOP_drain) > 0 || t->n_claiming)
        return false;
    release_drain(m, v->tenant, let_go, m);
    fair_queue_drain_tenant(m->fair_queue, v->tenant, let_go, m);
    empty_inspections(m, t);
    for (struct file *f; (f = map_next(&m->files, &i));) {
        if (strcmp(f->tenant, v->tenant) != 0)
            continue;
        any |= !lies_still(f);
        if (lies_still(f))
            still[n++] = f;
    }
    for (i = 0; i < n; i++)
        let_go(m, still[i]);
    return !any;
}

/* ---- steps ---- */

static void end(struct moving *v, const struct err *e)
{
    ctl_answer(v->c, e);
    ctl_release(v->c);
    event_free(v->timer);
    map_remove(&v->m->movings->going, v->tenant);
    free(v->tenant);
    free(v->path);
    free(v);
}

static void on_flushed(void *arg)
{
    struct moving *v = arg;
    v->flushing = false;
    crash_at(CRASH_moving_held);
    log_info("held", v->tenant, NULL, "it is to be moved: nothing of it goes on");
    end(v, NULL);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct moving *v = arg;
    (void)fd;
    (void)what;
    if (v->path) { /* the thread is done */
        pthread_join(v->thread, NULL);
        crash_at(CRASH_moving_rows);
        end(v, v->r < 0 ? &v->why : NULL);
    } else if (empty(v)) {
        v->flushing = true;
        ledger_then(v->m->ledger, on_flushed, v, NULL);
    } else {
        timer_set(v->timer, POLL_MS);
    }
}

static struct moving *moving_new(struct batchmgr *m, struct ctl_conn *c, const char *tenant, const char *path)
{
    struct moving *v = xcalloc(1, sizeof *v);
    *v = (struct moving){.m = m, .tenant = xstrdup(tenant), .path = path ? xstrdup(path) : NULL, .c = c};
    v->timer = event_new(m->base, -1, 0, on_timer, v);
    map_put(&m->movings->going, tenant, v);
    ctl_hold(c);
    return v;
}

static void *take_rows(void *arg)
{
    struct moving *v = arg;
    v->r = ledger_take_rows(&v->m->home, v->tenant, v->path, &v->why);
    event_active(v->timer, EV_TIMEOUT, 0);
    return NULL;
}

/* ---- requests ---- */

static int hold(struct batchmgr *m, struct ctl_conn *c, const char *tenant, struct err *e)
{
    struct tenant *t = map_get(&m->tenants, tenant);
    if (!t || !t->configured || t->purging)
        return err_refuse(e, "not_found", 0, "no tenant \"%s\"; `mysimbdp tenant list` shows them", tenant);
    int r = ledger_set_moves(m->ledger, tenant, TENANT_HELD, 0, e);
    if (r == 0)
        r = apply(m, t, e);
    if (r < 0)
        return r;
    timer_set(moving_new(m, c, tenant, NULL)->timer, 0);
    return 1;
}

static int arrive(struct batchmgr *m, struct ctl_conn *c, const char *tenant, const bson_t *rq, struct err *e)
{
    const struct uid_block block = {m->conf->platform.uid_base, m->conf->platform.n_uids};
    AUTO_BUF struct buf b = {0};
    int64_t uid;
    const int bits = TENANT_HELD | (json_get_bool(rq, "shared", false) ? TENANT_SHARED : 0) |
                     (json_get_bool(rq, "suspended", false) ? TENANT_SUSPENDED : 0);
    const int has = ledger_moves(m->ledger, tenant);
    if (conf_tenant(m->conf, tenant) && !(has & TENANT_HELD))
        return err_refuse(e, "exists", 0, "this home has a tenant %s already", tenant);
    ledger_take_up(m->ledger, tenant);
    int r = ledger_tenant_uid(m->ledger, tenant, &block, &uid, e);
    if (r == 0)
        r = ledger_set_moves(m->ledger, tenant, bits, 0, e);
    crash_at(CRASH_moving_arrived);
    if (r == 0)
        r = apply(m, tenant_get(m, tenant), e);
    if (r < 0)
        return r;
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", true);
    json_i64(&b, "uid", uid);
    json_end(&b, '}');
    ctl_send(c, &b);
    return 1;
}

static int rows(struct batchmgr *m, struct ctl_conn *c, const char *tenant, const char *path, struct err *e)
{
    if (!moving_is_held(m, tenant))
        return err_set(e, ERR_REFUSED, "tenant %s is not on its way to this home", tenant);
    struct moving *v = moving_new(m, c, tenant, path);
    if (pthread_create(&v->thread, NULL, take_rows, v) == 0)
        return 1;
    err_set(e, -EAGAIN, "no thread can be started");
    end(v, e);
    return 1;
}

static int take_up(struct batchmgr *m, const char *tenant, struct err *e)
{
    struct tenant *t = map_get(&m->tenants, tenant);
    if (!t || !t->configured)
        return err_refuse(e, "not_found", 0, "no tenant \"%s\"; `mysimbdp tenant list` shows them", tenant);
    if (!moving_is_held(m, tenant))
        return 0; /* asked for a second time */
    /* Who had its documents before may have them no more, also if an older state of that home comes back (database_identity.h). */
    int r = t->moves & TENANT_SHARED && !(t->moves & TENANT_MOVED) ? ledger_set_alone(m->ledger, tenant, e) : 0;
    if (r == 0)
        r = ledger_set_moved_to(m->ledger, tenant, NULL, e);
    if (r == 0)
        r = ledger_set_moves(m->ledger, tenant, 0, TENANT_HELD | TENANT_MOVED | TENANT_SHARED, e);
    crash_at(CRASH_moving_taken_up);
    if (r == 0)
        r = apply(m, t, e);
    if (r == 0)
        r = recover_tenant(m, tenant, e);
    if (r == 0)
        log_info("taken_up", tenant, NULL, "it is this home's, and goes on");
    return r;
}

static int gone(struct batchmgr *m, const char *tenant, const bson_t *rq, struct err *e)
{
    if (!moving_is_held(m, tenant))
        return err_set(e, ERR_REFUSED, "tenant %s is not held: it was not copied", tenant);
    const int bits = TENANT_HELD | TENANT_MOVED | (json_get_bool(rq, "shared", false) ? TENANT_SHARED : 0);
    int r = ledger_set_moved_to(m->ledger, tenant, json_get_str(rq, "to", "another home"), e);
    if (r == 0)
        r = ledger_set_moves(m->ledger, tenant, bits, 0, e);
    return r == 0 ? apply(m, tenant_get(m, tenant), e) : r;
}

int moving_serve(struct batchmgr *m, struct ctl_conn *c, const char *op, const bson_t *rq, struct err *e)
{
    const char *tenant = json_get_str(rq, "tenant_id", "");
    if (!conf_valid_id(tenant))
        return err_set(e, ERR_USAGE, "the request names no tenant");
    if (map_get(&m->movings->going, tenant))
        return err_refuse(e, "busy", 1, "a step of the move of tenant %s is under way", tenant);
    if (!strcmp(op, "move_hold"))
        return hold(m, c, tenant, e);
    if (!strcmp(op, "move_arrive"))
        return arrive(m, c, tenant, rq, e);
    if (!strcmp(op, "move_rows"))
        return rows(m, c, tenant, json_get_str(rq, "path", ""), e);
    if (!strcmp(op, "move_gone"))
        return gone(m, tenant, rq, e);
    if (!strcmp(op, "move_take_up"))
        return take_up(m, tenant, e);
    return err_set(e, ERR_USAGE, "unknown op \"%s\"", op);
}

void moving_start(struct batchmgr *m)
{
    m->movings = xcalloc(1, sizeof *m->movings);
}

void moving_stop(struct batchmgr *m)
{
    size_t i = 0;
    if (!m->movings)
        return;
    for (struct moving *v; (v = map_next(&m->movings->going, &i));) {
        if (v->path)
            pthread_join(v->thread, NULL);
        ctl_release(v->c);
        event_free(v->timer);
        free(v->tenant);
        free(v->path);
        free(v);
    }
    map_fini(&m->movings->going);
    free(m->movings);
    m->movings = NULL;
}
