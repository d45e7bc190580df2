#include "retention.h"
#include "databases.h"
#include "deletions.h"
#include "files.h"
#include "filing.h"
#include "ledger.h"
#include "moving.h"
#include "state.h"
#include "tenants.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/retention_clock.h"
#include "loop/timer.h"

#include <string.h>

enum { DAY_MS = 86400000, AT_ONCE = 16, NEXT_MS = 5, DOCUMENTS_AT_ONCE = 500 };

struct retention {
    struct retention_clock age; /* the clock that it goes by: it does not follow one that is set */
    struct event *ev;
    size_t next; /* tenant that is looked at next */
};

struct expiry { /* documents of one dataset that are being deleted */
    struct batchmgr *m;
    char *tenant;
    char **ids;
};

static void free_ids(char **ids)
{
    for (char **id = ids; *id; id++)
        free(*id);
    free(ids);
}

int64_t retention_now_ms(struct batchmgr *m)
{
    return retention_clock_now(&m->retention->age);
}

static int64_t before(struct batchmgr *m, int64_t days)
{
    return retention_now_ms(m) - days * DAY_MS;
}

/* ---- files and logs ---- */

static size_t prune_listed(struct batchmgr *m, char **ids)
{
    size_t n = 0;
    for (char **id = ids; *id; id++, n++) {
        struct file *f = NULL;
        if (file_find(m, *id) || ledger_get_file(m->ledger, *id, &f, NULL) < 0)
            continue; /* it was brought back meanwhile */
        filing_discard(m, f);
        ledger_note_file(m->ledger, f);
        file_free(f);
    }
    free_ids(ids);
    return n;
}

static size_t prune_files(struct batchmgr *m, const struct conf_tenant *t)
{
    int64_t until = before(m, t->retention.files_days);
    size_t n = prune_listed(m, ledger_filed_before(m->ledger, t->id, until, AT_ONCE));
    return n + prune_listed(m, ledger_left_in_work(m->ledger, t->id, until, AT_ONCE));
}

static size_t prune_logs(struct batchmgr *m, const struct conf_tenant *t)
{
    char **ids = ledger_runs_before(m->ledger, t->id, before(m, t->retention.logs_days), AT_ONCE);
    size_t n = 0;
    for (char **id = ids; *id; id++, n++) {
        fd_remove_tree(m->runs_fd, *id);
        ledger_note_pruned(m->ledger, *id);
    }
    free_ids(ids);
    return n;
}

/* ---- documents ---- */

static void on_marked(void *arg)
{
    retention_kick(arg);
}

static void on_expired(void *arg, enum deletion_end end)
{
    bool ok = end == DELETION_DONE;
    struct expiry *x = arg;
    size_t n = 0;
    for (char **id = x->ids; *id; id++, n++)
        if (ok)
            ledger_note_expired(x->m->ledger, *id);
    if (ok)
        log_info("expired", x->tenant, NULL, "documents of %zu files were deleted: older than documents_days", n);
    else if (end == DELETION_FAILED)
        log_warn("expired", x->tenant, NULL, "documents of %zu files could not be deleted; trying again with the next scan", n);
    struct batchmgr *m = x->m;
    free_ids(x->ids);
    free(x->tenant);
    free(x);
    if (ok)
        ledger_then(m->ledger, on_marked, m, NULL); /* there may be more */
}

/* A forced upload of the same content may be storing rows under one of the prefixes now. (One that comes later waits for the
 * deletion: admit.c.) */
static void leave_out_loading(struct batchmgr *m, char **ids, char **prefixes)
{
    struct map loading = {0};
    size_t n = 0, i = 0;
    for (struct file *f; (f = map_next(&m->files, &i));)
        if (*f->prefix)
            map_put(&loading, f->prefix, f);
    for (size_t k = 0; ids[k]; k++) {
        if (map_get(&loading, prefixes[k])) {
            free(ids[k]);
            free(prefixes[k]);
        } else {
            ids[n] = ids[k];
            prefixes[n++] = prefixes[k];
        }
    }
    ids[n] = prefixes[n] = NULL;
    map_fini(&loading);
}

static void expire_documents(struct batchmgr *m, const struct conf_tenant *c, const struct conf_dataset *d)
{
    struct tenant *t = tenant_get(m, c->id);
    char **prefixes = NULL;
    if (deletions_are_going(m, c->id) || !databases_serve(t))
        return;
    char **ids =
        ledger_stored_before(m->ledger, c->id, d->name, before(m, c->retention.documents_days), DOCUMENTS_AT_ONCE, &prefixes);
    leave_out_loading(m, ids, prefixes);
    if (!*ids) {
        free_ids(ids);
        free_ids(prefixes);
        return;
    }
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_i64(&b, "v", 2);
    json_str(&b, "tenant", c->id);
    json_str(&b, "dataset", d->name);
    json_str(&b, "database", c->database);
    json_str(&b, "collection", d->collection);
    json_str(&b, "prefix", prefixes[0]);
    json_begin(&b, "delete_prefixes", '[');
    for (char **p = prefixes; *p; p++)
        json_str(&b, NULL, *p);
    json_end(&b, ']');
    json_begin(&b, "inputs", '[');
    json_end(&b, ']');
    json_end(&b, '}');
    free_ids(prefixes);
    struct expiry *x = xmalloc(sizeof *x);
    *x = (struct expiry){m, xstrdup(c->id), ids};
    if (deletions_begin(m, t, b.p, on_expired, x))
        return;
    free_ids(x->ids);
    free(x->tenant);
    free(x);
}

/* ---- when ---- */

/* By a timer, so that what tenants wait for goes first. */
static void go_on(void *arg)
{
    struct batchmgr *m = arg;
    timer_set(m->retention->ev, NEXT_MS);
}

static size_t look_at(struct batchmgr *m, const struct conf_tenant *t)
{
    size_t n = 0;
    if (tenant_get(m, t->id)->purging || moving_is_held(m, t->id)) /* held: nothing of it changes */
        return 0;
    if (t->retention.files_days >= 0)
        n += prune_files(m, t);
    if (t->retention.logs_days >= 0)
        n += prune_logs(m, t);
    const struct conf_dataset *d = t->datasets.v;
    for (size_t k = 0; t->retention.documents_days >= 0 && k < t->datasets.n; k++)
        expire_documents(m, t, &d[k]);
    return n;
}

/* Looks at a few tenants a tick. One with more to remove is looked at again when the removals are committed. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct batchmgr *m = arg;
    (void)fd;
    (void)what;
    for (int i = 0; i < AT_ONCE && m->retention->next < m->conf->n_tenants; i++) {
        if (look_at(m, &m->conf->tenants[m->retention->next])) {
            ledger_then(m->ledger, go_on, m, NULL);
            return;
        }
        m->retention->next++;
    }
    if (m->retention->next < m->conf->n_tenants)
        go_on(m);
}

void retention_kick(struct batchmgr *m)
{
    m->retention->next = 0;
    timer_set(m->retention->ev, 0);
}

int64_t retention_ahead_s(struct batchmgr *m)
{
    retention_clock_now(&m->retention->age);
    return m->retention->age.ahead_ms / 1000;
}

void retention_trust_clock(struct batchmgr *m)
{
    retention_clock_trust(&m->retention->age);
    retention_kick(m);
}

void retention_start(struct batchmgr *m)
{
    m->retention = xcalloc(1, sizeof *m->retention);
    retention_clock_init(&m->retention->age, m->home.dirfd, "state/batchmgr.clock");
    m->retention->ev = event_new(m->base, -1, 0, on_tick, m);
}

void retention_stop(struct batchmgr *m)
{
    if (!m->retention)
        return;
    event_free(m->retention->ev);
    free(m->retention);
    m->retention = NULL;
}
