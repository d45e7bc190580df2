#include "files.h"
#include "ledger.h"
#include "state.h"
#include "tenants.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/timer.h"

struct file_timer {
    struct batchmgr *m;
    file_fn fn;
    struct event *ev;
};

struct behind { /* a commit */
    struct batchmgr *m;
    struct file *f;
    file_fn fn;
};

static void count_live(struct batchmgr *m, const struct file *f, int by)
{
    struct tenant *t = tenant_get(m, f->tenant);
    t->usage.n_live += by;
    *(by > 0 ? &t->n_arrived : &t->n_settled) += 1;
    tenant_usage(t, f->dataset)->n_live += by;
}

void file_add(struct batchmgr *m, struct file *f)
{
    map_put(&m->files, f->file_id, f);
    count_live(m, f, 1);
}

void file_remove(struct batchmgr *m, struct file *f)
{
    count_live(m, f, -1);
    map_remove(&m->files, f->file_id);
}

struct file *file_find(struct batchmgr *m, const char *file_id)
{
    return map_get(&m->files, file_id);
}

void files_free(struct batchmgr *m)
{
    size_t i = 0;
    for (struct file *f; (f = map_next(&m->files, &i));) {
        file_timer_stop(f);
        file_free(f);
    }
    map_fini(&m->files);
}

void file_set_state(struct file *f, enum file_state next)
{
    /* bit n of a row: the move to state n is one the state machine has */
#define TO(name) (1u << FILE_##name)
    static const unsigned allowed[FILE_N_STATES] = {
        [FILE_received] = TO(queued) | TO(waiting) | TO(rejected) | TO(duplicate) | TO(vanished),
        [FILE_queued] = TO(running) | TO(rejected) | TO(waiting),
        [FILE_running] = TO(ingested) | TO(quarantined) | TO(waiting) | TO(queued) | TO(rejected) | TO(vanished),
        [FILE_waiting] = TO(queued) | TO(running) | TO(duplicate) | TO(rejected) | TO(vanished) | TO(received) | TO(quarantined),
        [FILE_rejected] = TO(waiting),
        [FILE_quarantined] = TO(waiting),
    };
#undef TO
    if (f->state != next && !(allowed[f->state] & (1u << next)))
        log_error("state", f->tenant, NULL, "file %s goes from %s to %s, a move that should not exist; please report this",
                  f->file_id, file_state_name(f->state), file_state_name(next));
    log_debug("state", f->tenant, NULL, "file %s: %s -> %s", f->file_id, file_state_name(f->state), file_state_name(next));
    if (next == FILE_queued)
        f->queued_wall_ms = clk_wall_ms();
    f->state = next;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct file *f = arg;
    struct batchmgr *m = f->timer->m;
    file_fn fn = f->timer->fn;
    (void)fd;
    (void)what;
    file_timer_stop(f);
    fn(m, f);
}

void file_timer(struct batchmgr *m, struct file *f, int64_t ms, file_fn fn)
{
    file_timer_stop(f);
    f->timer = xmalloc(sizeof *f->timer);
    *f->timer = (struct file_timer){m, fn, event_new(m->base, -1, 0, on_timer, f)};
    timer_set(f->timer->ev, ms);
}

void file_timer_stop(struct file *f)
{
    if (f->timer)
        event_free(f->timer->ev);
    free(f->timer);
    f->timer = NULL;
}

static void on_committed(void *arg)
{
    struct behind *b = arg;
    b->fn(b->m, b->f);
    free(b);
}

void file_then(struct batchmgr *m, struct file *f, file_fn fn)
{
    struct behind *b = xmalloc(sizeof *b);
    *b = (struct behind){m, f, fn};
    ledger_then(m->ledger, on_committed, b, free);
}

char *file_in_path(const struct file *f, const char *name)
{
    return xasprintf("work/%s/in/%s", f->file_id, name);
}
