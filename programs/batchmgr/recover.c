#include "recover.h"
#include "admit.h"
#include "claim.h"
#include "dispatch.h"
#include "duplicates.h"
#include "files.h"
#include "filing.h"
#include "ledger.h"
#include "moving.h"
#include "runs.h"
#include "state.h"

#include "base/clk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <string.h>

enum { MAX_WAIT_MS = 86400000 };

struct recovery {
    struct batchmgr *m;
    struct file **v;
    size_t n;
    const char *tenant; /* whose; NULL: all */
};

/* Those of tenants that are held stay on the disk (moving.h). */
static void on_live_file(void *arg, struct file *f)
{
    struct recovery *rec = arg;
    if (moving_is_held(rec->m, f->tenant) ||
        (rec->tenant && (strcmp(rec->tenant, f->tenant) != 0 || file_find(rec->m, f->file_id)))) {
        file_free(f);
        return;
    }
    rec->v = xgrow(rec->v, rec->n, sizeof *rec->v);
    rec->v[rec->n++] = f;
    file_add(rec->m, f);
}

/* A retry that had not moved the bytes back into work/ yet: it is filed again, and can be asked for once more. */
static void refile(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *done = xasprintf("done/%s/%s/%s", f->tenant, f->dataset, f->file_id);
    file_set_state(f, FILE_quarantined);
    f->place = fd_exists(m->home.dirfd, done) ? PLACE_done : PLACE_quarantine;
    xstr_set(&f->reason, "retry_interrupted");
    ledger_put_file(m->ledger, f);
    file_remove(m, f);
    file_free(f);
}

static void take_up_waiting(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *in = xasprintf("work/%s/in", f->file_id);
    int64_t wait_ms = f->not_before_wall_ms - clk_wall_ms();
    if (!fd_exists(m->home.dirfd, in)) {
        refile(m, f);
        return;
    }
    filing_drop_filed(m, f);
    if (f->reason && !strcmp(f->reason, "same_content"))
        wait_ms = 0; /* queues behind the same content again, or finds it ingested */
    if (wait_ms > MAX_WAIT_MS)
        wait_ms = MAX_WAIT_MS; /* the calendar clock may have been set back */
    if (wait_ms > 0)
        file_timer(m, f, wait_ms, admit_queue);
    else
        duplicates_check(m, f);
}

/* Files that wait with one kept output go on together. */
static void regroup(struct recovery *rec)
{
    struct map leads = {0};
    for (size_t i = 0; i < rec->n; i++) {
        struct file *f = rec->v[i];
        if (!f || !*f->output_run || (f->state != FILE_queued && f->state != FILE_waiting))
            continue;
        struct file *lead = map_get(&leads, f->output_run);
        if (lead) {
            file_add_mate(lead, f);
            rec->v[i] = NULL;
        } else {
            map_put(&leads, f->output_run, f);
        }
    }
    map_fini(&leads);
}

static void go_on(struct recovery *rec)
{
    struct batchmgr *m = rec->m;
    regroup(rec);
    for (size_t i = 0; i < rec->n; i++) {
        struct file *f = rec->v[i];
        if (!f)
            continue;
        if (file_state_is_final(f->state))
            filing_resume(m, f);
        else if (f->state == FILE_received)
            claim_resume(m, f);
        else if (f->state == FILE_queued)
            admit_queue(m, f);
        else if (f->state == FILE_waiting)
            take_up_waiting(m, f);
    }
}

int recover_run(struct batchmgr *m, struct err *e)
{
    struct recovery rec = {.m = m};
    int r = ledger_each_live_file(m->ledger, on_live_file, &rec, e);
    /* Running ones first: what they use is charged before anything new is dispatched, and their content is indexed. */
    for (size_t i = 0; i < rec.n; i++)
        if (rec.v[i]->state == FILE_running || rec.v[i]->state == FILE_queued)
            duplicates_index(m, rec.v[i]);
    for (size_t i = 0; i < rec.n; i++)
        if (rec.v[i]->state == FILE_running) {
            dispatch_recover(m, rec.v[i]); /* may have queued it already */
            rec.v[i] = NULL;
        }
    dispatch_resolve(m);
    dispatch_dismiss_ended(m);
    dispatch_clean_groups(m);
    go_on(&rec);
    if (rec.n)
        log_info("recovered", NULL, NULL, "%zu unfinished files, %zu of them with runs", rec.n, runs_n(m));
    free(rec.v);
    return r;
}

/* None of them has a run: it was let go of when the last one had ended. */
int recover_tenant(struct batchmgr *m, const char *tenant, struct err *e)
{
    struct recovery rec = {.m = m, .tenant = tenant};
    int r = ledger_each_live_file(m->ledger, on_live_file, &rec, e);
    for (size_t i = 0; i < rec.n; i++)
        if (rec.v[i]->state == FILE_queued)
            duplicates_index(m, rec.v[i]);
    go_on(&rec);
    free(rec.v);
    return r;
}
