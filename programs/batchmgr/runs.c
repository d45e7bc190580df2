#include "runs.h"
#include "run_plan.h"
#include "state.h"
#include "turn.h"

#include "base/crash.h"
#include "base/fd.h"
#include "base/mem.h"
#include "manager/run_handle.h"

#include <string.h>

struct runs {
    struct map going; /* id -> struct run */
};

static void free_run(struct run *r)
{
    run_handle_free(r->handle);
    run_free(r);
}

void runs_start(struct batchmgr *m)
{
    m->runs = xcalloc(1, sizeof *m->runs);
}

void runs_stop(struct batchmgr *m)
{
    size_t i = 0;
    if (!m->runs)
        return;
    for (struct run *r; (r = map_next(&m->runs->going, &i));)
        free_run(r);
    map_fini(&m->runs->going);
    free(m->runs);
    m->runs = NULL;
}

void runs_add(struct batchmgr *m, struct run *r)
{
    map_put(&m->runs->going, r->run_id, r);
}

struct run *runs_find(struct batchmgr *m, const char *run_id)
{
    return map_get(&m->runs->going, run_id);
}

size_t runs_n(const struct batchmgr *m)
{
    return m->runs ? m->runs->going.n : 0;
}

struct run *runs_next(struct batchmgr *m, size_t *i)
{
    return map_next(&m->runs->going, i);
}

void runs_order_stop(struct run *r, enum run_stop why)
{
    if (why > r->stop)
        r->stop = why;
    if (r->handle)
        run_handle_stop(r->handle);
}

size_t runs_order_stop_all(struct batchmgr *m, const char *tenant, enum run_stop why)
{
    size_t i = 0, n = 0;
    for (struct run *r; (r = runs_next(m, &i));)
        if (!tenant || !strcmp(r->tenant, tenant)) {
            n++;
            if (r->stop < why)
                runs_order_stop(r, why);
        }
    return n;
}

void runs_acknowledge(struct batchmgr *m, struct run *r)
{
    crash_at(CRASH_run_ack);
    if (r->n_files > 1) {
        AUTO_FREE char *dir = run_plan_group_dir(r);
        fd_remove_tree(m->home.dirfd, dir);
    }
    if (r->handle)
        run_handle_acknowledge(r->handle);
    map_remove(&m->runs->going, r->run_id);
    free_run(r);
    turn_kick(m);
    turn_check_quit(m);
}
