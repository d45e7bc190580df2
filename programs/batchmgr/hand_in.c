/* What goes wrong                                    what becomes of the file
 *   the answer is lost, whoever is killed              The gateway asks again with the same key and is told the same file
 *   batchmgr is killed before the commit               there is no row: the file stays in the spool, the gateway hands it in again
 *   batchmgr is killed behind the commit               the next one claims it out of the spool (recover.c)
 *   the file is gone from the spool then               it ends `vanished`, as one that a tenant took away
 *   it is something else by then                       claim.c finds out behind the rename, where nobody can change it any more
 *   two hand in the same key at once                   the second is told the first's file when its row is durable
 *   two hand in one name in the spool at once          by the same key: so, too; else the second is refused */
#include "hand_in.h"
#include "claim.h"
#include "files.h"
#include "ledger.h"
#include "retention.h"
#include "spool.h"
#include "state.h"
#include "tenants.h"

#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/trace_context.h"

#include <string.h>

struct hand_ins {
    struct map fresh; /* "tenant/key" -> struct committing: the ledger does not have it yet */
};

/* On its way to the ledger. */
struct committing {
    struct batchmgr *m;
    char *name; /* in `fresh` */
    struct ledger_hand_in row;
    struct file *file;
    const struct hand_in_ops *ops;
    void *arg;
};

/* The answer to who asked again. */
struct repeating {
    char file_id[ID_SIZE];
    const struct hand_in_ops *ops;
    void *arg;
};

/* ---- asked again ---- */

static void on_repeated(void *arg)
{
    struct repeating *x = arg;
    x->ops->done(x->arg, x->file_id, true);
    free(x);
}

static void drop_repeated(void *arg)
{
    struct repeating *x = arg;
    x->ops->dropped(x->arg);
    free(x);
}

/* Answered behind the commit where that is still under way. */
static void repeat(struct batchmgr *m, const struct committing *c, const char *spool, const char *file_id)
{
    if (!claim_is_staged(m, SPOOL, spool)) /* else it is the very file, and still to be claimed */
        spool_remove(m, spool);
    if (!map_get(&m->hand_ins->fresh, c->name)) {
        c->ops->done(c->arg, file_id, true);
        return;
    }
    struct repeating *x = xcalloc(1, sizeof *x);
    *x = (struct repeating){.ops = c->ops, .arg = c->arg};
    memcpy(x->file_id, file_id, ID_SIZE);
    ledger_then(m->ledger, on_repeated, x, drop_repeated);
}

static bool is_same(const struct ledger_hand_in *a, const struct ledger_hand_in *b)
{
    return !strcmp(a->dataset, b->dataset) && !strcmp(a->name, b->name) && a->size == b->size;
}

/* 1: the key was handed in before, and file_id says as what; 0: it was not. */
static int find(struct batchmgr *m, const char *name, const struct ledger_hand_in *row, char ret_file_id[ID_SIZE], struct err *e)
{
    const struct committing *fresh = map_get(&m->hand_ins->fresh, name);
    bool same = fresh && is_same(&fresh->row, row);
    if (fresh)
        memcpy(ret_file_id, fresh->row.file_id, ID_SIZE);
    else if (!ledger_find_hand_in(m->ledger, row, retention_now_ms(m) - HAND_IN_KEPT_MS, ret_file_id, &same))
        return 0;
    if (same)
        return 1;
    return err_refuse(e, *row->key == 'k' ? "idempotency_key" : "spool", 0, "\"%s\" was used for another file, %s", row->key + 1,
                      ret_file_id);
}

/* ---- handed in ---- */

static void committing_free(struct committing *c)
{
    char *strings[] = {c->name, c->row.tenant, c->row.key, c->row.dataset, c->row.name};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        free(strings[i]);
    free(c);
}

static void on_committed(void *arg)
{
    struct committing *c = arg;
    crash_at(CRASH_hand_in_commit);
    map_remove(&c->m->hand_ins->fresh, c->name);
    c->ops->done(c->arg, c->row.file_id, false);
    claim_move(c->m, c->file);
    committing_free(c);
}

static void drop_committing(void *arg)
{
    struct committing *c = arg;
    map_remove(&c->m->hand_ins->fresh, c->name);
    c->ops->dropped(c->arg);
    committing_free(c);
}

static void commit(struct batchmgr *m, const struct hand_in *h, struct committing *c)
{
    struct file *f = claim_new_file(m, map_get(&m->tenants, h->file.tenant), h->file.dataset, SPOOL, h->file.name);
    f->app = xstrdup(h->file.app);
    f->force = h->file.force;
    f->trace = trace_keep_again(h->file.trace);
    xstr_set(&f->raw_name, h->spool);
    claim_stage(m, f);
    c->file = f;
    memcpy(c->row.file_id, f->file_id, ID_SIZE);
    c->row.wall_ms = f->received_wall_ms;
    map_put(&m->hand_ins->fresh, c->name, c);
    ledger_put_file(m->ledger, f);
    ledger_put_hand_in(m->ledger, &c->row);
    ledger_then(m->ledger, on_committed, c, drop_committing);
    log_info("handed_in", f->tenant, NULL, "%s (%s/%s), %lld bytes, by %s", f->file_id, f->dataset, f->name,
             (long long)h->file.size, h->account);
}

/* Checks that can be made without looking for the key. */
static int check(const struct hand_in *h, struct err *e)
{
    if (!home_valid_id(h->spool))
        return err_refuse(e, "spool", 0, "\"%s\" is no name in the spool", h->spool);
    if (h->file.size < 0)
        return err_set(e, ERR_USAGE, "the request tells no size");
    if (h->key && (!*h->key || strlen(h->key) > HAND_IN_MAX_KEY))
        return err_refuse(e, "idempotency_key", 0, "a key has 1 to %d bytes", HAND_IN_MAX_KEY);
    return 0;
}

/* Whether it may be taken in now. */
static int check_now(struct batchmgr *m, const struct hand_in *h, struct err *e)
{
    int64_t max_bytes;
    if (claim_is_staged(m, SPOOL, h->spool))
        return err_refuse(e, "spool", 0, "%s in the spool is handed in already", h->spool);
    int r = spool_check(m, h->spool, h->file.size, e);
    return r < 0 ? r : uploads_check(m, &h->file, &max_bytes, e);
}

int hand_in(struct batchmgr *m, const struct hand_in *h, const struct hand_in_ops *ops, void *arg, struct err *e)
{
    char file_id[ID_SIZE];
    int r = check(h, e);
    if (r < 0)
        return r;
    struct committing *c = xcalloc(1, sizeof *c);
    *c = (struct committing){.m = m, .ops = ops, .arg = arg};
    c->row = (struct ledger_hand_in){.tenant = xstrdup(h->file.tenant),
                                     .key = h->key ? xasprintf("k%s", h->key) : xasprintf("s%s", h->spool),
                                     .dataset = xstrdup(h->file.dataset),
                                     .name = xstrdup(h->file.name),
                                     .size = h->file.size};
    c->name = xasprintf("%s/%s", c->row.tenant, c->row.key);
    r = find(m, c->name, &c->row, file_id, e);
    if (r > 0)
        repeat(m, c, h->spool, file_id);
    if (r == 0 && (r = check_now(m, h, e)) == 0) {
        commit(m, h, c);
        return 0;
    }
    committing_free(c);
    return r < 0 ? r : 0;
}

void hand_in_forget(struct batchmgr *m)
{
    ledger_forget_hand_ins(m->ledger, retention_now_ms(m) - HAND_IN_KEPT_MS);
}

void hand_in_start(struct batchmgr *m)
{
    m->hand_ins = xcalloc(1, sizeof *m->hand_ins);
}

void hand_in_stop(struct batchmgr *m)
{
    if (!m->hand_ins)
        return;
    map_fini(&m->hand_ins->fresh);
    free(m->hand_ins);
    m->hand_ins = NULL;
}
