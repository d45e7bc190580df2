/* A final state is committed first, with the place still "work"; then work/<file_id>/in is renamed to
 * done|quarantine/<tenant>/<dataset>/<file_id>, the reason file and the report line are written, and the new place is
 * committed. A crash between leaves a final row whose place is "work": the same steps are done again, each of them
 * harmless when it was done already (a report line may then stand twice; it carries the file_id). */
#include "filing.h"
#include "cross_device.h"
#include "fair_queue.h"
#include "files.h"
#include "ledger.h"
#include "moving.h"
#include "names.h"
#include "refusals.h"
#include "state.h"
#include "tenants.h"
#include "turn.h"

#include "manager/spawner.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { RETRY_MS = 1000, MAX_RETRY_MS = 30000, BUSY_RETRY_S = 1 };

struct filing {
    const struct filing_ops *ops;
};

static bool is_failure(enum file_state s)
{
    return s == FILE_rejected || s == FILE_quarantined;
}

static enum file_place place_for(struct batchmgr *m, const struct file *f)
{
    const struct conf_tenant *c = conf_tenant(m->conf, f->tenant);
    if (f->state == FILE_vanished || tenant_get(m, f->tenant)->purging)
        return PLACE_gone;
    if (!is_failure(f->state))
        return c && c->retention.on_success == ON_SUCCESS_delete ? PLACE_gone : PLACE_done;
    switch (c ? c->retention.on_failure : ON_FAILURE_quarantine) {
    case ON_FAILURE_delete:
        return PLACE_gone;
    case ON_FAILURE_archive:
        return PLACE_done;
    case ON_FAILURE_quarantine:
        break;
    }
    return PLACE_quarantine;
}

static char *filed_dir(const struct file *f, enum file_place place)
{
    return xasprintf("%s/%s/%s", place == PLACE_done ? "done" : "quarantine", f->tenant, f->dataset);
}

char *filing_path(const struct file *f)
{
    if (f->place == PLACE_work)
        return xasprintf("work/%s", f->file_id);
    AUTO_FREE char *dir = filed_dir(f, f->place);
    return xasprintf("%s/%s", dir, f->file_id);
}

static int write_reason(struct batchmgr *m, const struct file *f, const char *dir)
{
    AUTO_BUF struct buf b = {0};
    /* Files that older versions claimed may have our name. */
    AUTO_FREE char *path = xasprintf("%s/%s/%s%s", dir, f->file_id, strcmp(f->safe, NAMES_REASON) ? "" : "_", NAMES_REASON);
    json_begin(&b, NULL, '{');
    json_str(&b, "file_id", f->file_id);
    json_str(&b, "tenant_id", f->tenant);
    json_str(&b, "dataset", f->dataset);
    json_str(&b, "file_name", f->name);
    json_str(&b, "state", file_state_name(f->state));
    json_str(&b, "reason", f->reason);
    json_str(&b, "detail", f->detail);
    json_i64(&b, "attempts", f->attempts);
    json_str(&b, "run_id", *f->run_id ? f->run_id : NULL);
    json_time(&b, "ended_at", f->ended_wall_ms);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    if (unlinkat(m->home.dirfd, path, 0) < 0 && errno != ENOENT) /* one that was written before a crash */
        return -errno;
    AUTO_FD int fd = openat(m->home.dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0640);
    return fd < 0 ? -errno : fd_write_all(fd, b.p, b.n); /* the ledger holds the truth, so this waits for no disk */
}

static int move_away(struct batchmgr *m, struct file *f, enum file_place to)
{
    AUTO_FREE char *work = xasprintf("work/%s", f->file_id);
    AUTO_FREE char *in = xasprintf("work/%s/in", f->file_id);
    int r = 0;
    if (to == PLACE_gone) {
        crash_at(CRASH_work_remove);
        return spawner_discard(m->spawner, m->home.dirfd, work);
    }
    AUTO_FREE char *dir = filed_dir(f, to);
    AUTO_FREE char *target = xasprintf("%s/%s", dir, f->file_id);
    r = fd_mkdirs(m->home.dirfd, dir, 0711);
    crash_at(CRASH_archive_mkdir);
    if (r == 0 && !fd_exists(m->home.dirfd, target) && renameat(m->home.dirfd, in, m->home.dirfd, target) < 0)
        r = -errno;
    crash_at(CRASH_archive_rename);
    if (r == -ENOENT) { /* nothing was ever claimed (an upload refused for its size) */
        f->place = PLACE_gone;
        return 0;
    }
    if (r == 0 && is_failure(f->state))
        r = write_reason(m, f, dir);
    if (r == 0) {
        ledger_sync_dir(m->ledger, dir);
        crash_at(CRASH_work_remove);
        fd_remove_tree(m->home.dirfd, work);
    }
    return r;
}

/* One line a file, like the ledger's row but for `tail -f` and log collectors. */
static void report(struct batchmgr *m, const struct file *f)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *dir = xasprintf("logs/tenants/%s", f->tenant);
    int64_t from = f->started_wall_ms ? f->started_wall_ms : f->received_wall_ms;
    json_begin(&b, NULL, '{');
    json_time(&b, "ts", clk_wall_ms());
    json_str(&b, "status", file_state_name(f->state));
    json_str(&b, "tenant_id", f->tenant);
    json_str(&b, "dataset", f->dataset);
    json_str(&b, "file_id", f->file_id);
    json_str(&b, "file_name", f->name);
    json_i64_or_null(&b, "size_bytes", f->size);
    json_i64_or_null(&b, "rows_loaded", f->rows_loaded);
    json_i64_or_null(&b, "rows_rejected", f->rows_rejected);
    json_i64_or_null(&b, "rows_repaired", f->rows_repaired);
    json_str(&b, "reason", f->reason);
    json_str(&b, "detail", f->detail);
    json_i64(&b, "attempts", f->attempts);
    json_str(&b, "run_id", *f->run_id ? f->run_id : NULL);
    json_time(&b, "received_at", f->received_wall_ms);
    json_time(&b, "started_at", f->started_wall_ms);
    json_time(&b, "ended_at", f->ended_wall_ms);
    json_f64(&b, "seconds", (double)(f->ended_wall_ms - from) / 1000);
    json_end(&b, '}');
    buf_adds(&b, "\n");
    int r = fd_append_file(m->home.dirfd, dir, "ingest.jsonl", b.p, b.n, 0644);
    if (r < 0)
        log_warn("report", f->tenant, NULL, "cannot write %s/ingest.jsonl: %s", dir, err_text(r));
}

static void on_filed(struct batchmgr *m, struct file *f)
{
    struct err e = {0};
    crash_at(CRASH_archive_commit);
    file_remove(m, f);
    m->filing->ops->filed(m, f);
    if (f->retry_asked && filing_retry(m, f->file_id, &e) < 0)
        log_warn("retry", f->tenant, NULL, "%s", e.msg);
    file_free(f);
    turn_kick(m);
    turn_check_quit(m);
}

static void file_away(struct batchmgr *m, struct file *f);

static void drop_outputs(struct batchmgr *m, const struct file *f)
{
    if (f->state != FILE_ingested || !*f->output_run)
        return;
    AUTO_FREE char *path = xasprintf("%s/output", f->output_run);
    fd_remove_tree(m->runs_fd, path);
}

static void on_filed_across(struct batchmgr *m, struct file *f, int r);

static void filed(struct batchmgr *m, struct file *f)
{
    drop_outputs(m, f);
    crash_at(CRASH_report_write);
    report(m, f);
    ledger_put_file(m->ledger, f);
    file_then(m, f, on_filed);
}

/* Doubles from RETRY_MS to MAX_RETRY_MS: a lasting failure must not fill the log. */
static int64_t retry_delay_ms(struct file *f)
{
    f->filing_ms = f->filing_ms ? f->filing_ms * 2 : RETRY_MS;
    if (f->filing_ms > MAX_RETRY_MS)
        f->filing_ms = MAX_RETRY_MS;
    return f->filing_ms;
}

static void file_away(struct batchmgr *m, struct file *f)
{
    enum file_place to = place_for(m, f);
    int r = move_away(m, f, to);
    if (r == -EXDEV) {
        AUTO_FREE char *in = xasprintf("work/%s/in", f->file_id);
        AUTO_FREE char *dir = filed_dir(f, to);
        AUTO_FREE char *target = xasprintf("%s/%s", dir, f->file_id);
        cross_device_move(m, f, in, target, on_filed_across);
        return;
    }
    if (r < 0) {
        log_error("filing", f->tenant, NULL, "cannot file %s (%s) away: %s; trying again", f->file_id, f->name, err_text(r));
        file_timer(m, f, retry_delay_ms(f), file_away);
        return;
    }
    if (f->place != PLACE_gone)
        f->place = to;
    filed(m, f);
}

/* The copy is in its place: file_away finds it there and goes on. */
static void on_filed_across(struct batchmgr *m, struct file *f, int r)
{
    if (r == 0) {
        file_away(m, f);
    } else if (r == ERR_REFUSED) { /* the ledger says where it is */
        log_warn("filing", f->tenant, NULL, "%s (%s) is no regular file, and stays in work/%s", f->file_id, f->name, f->file_id);
        filed(m, f);
    } else {
        log_error("filing", f->tenant, NULL, "cannot file %s (%s) away: %s; trying again", f->file_id, f->name, err_text(r));
        file_timer(m, f, retry_delay_ms(f), file_away);
    }
}

static void on_final_committed(struct batchmgr *m, struct file *f)
{
    crash_at(CRASH_verdict_commit);
    if (f->ended_by)
        m->filing->ops->end_committed(m, f->ended_by);
    f->ended_by = NULL;
    file_away(m, f);
}

/* Tells a tenant that is slowed down, in the file's detail: it shows in ingest.jsonl, `files` and reason.json. */
static void count_refusal(struct batchmgr *m, struct file *f)
{
    if (!tenant_count_refusal(tenant_get(m, f->tenant)))
        return;
    char *told = xasprintf("%s (%d of your files were refused: about %d a second are taken in until fewer are)",
                           f->detail ? f->detail : "", REFUSALS_AT_ONCE, REFUSALS_PER_S);
    free(f->detail);
    f->detail = told;
}

/* An ingested file with rejected rows says so in its detail. */
static void tell_rejects(struct file *f)
{
    if (f->state != FILE_ingested || f->rows_rejected <= 0)
        return;
    free(f->detail);
    f->detail = xasprintf("%lld rows, %lld rejected; `mysimbdp rejects %s` lists them",
                          (long long)(f->rows_loaded > 0 ? f->rows_loaded : 0), (long long)f->rows_rejected, f->file_id);
}

void filing_finish(struct batchmgr *m, struct file *f, enum file_state state, const char *reason, const char *detail,
                   struct run *run)
{
    file_timer_stop(f);
    f->ended_by = run;
    xstr_set(&f->reason, reason);
    xstr_set(&f->detail, detail);
    f->ended_wall_ms = clk_wall_ms();
    f->place = state == FILE_vanished ? PLACE_gone : PLACE_work;
    file_set_state(f, state);
    tell_rejects(f);
    if (run)
        ledger_put_run(m->ledger, run);
    else if (state == FILE_rejected || state == FILE_vanished)
        count_refusal(m, f);
    ledger_put_file(m->ledger, f);
    file_then(m, f, on_final_committed);
}

void filing_resume(struct batchmgr *m, struct file *f)
{
    file_away(m, f);
}

static void on_retry_committed(struct batchmgr *m, struct file *f)
{
    crash_at(CRASH_retry_commit);
    f->retrying = false;
    m->filing->ops->retry(m, f);
}

/* The bytes are in work/ again. */
static void taken_back(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *reason = file_in_path(f, NAMES_REASON);
    crash_at(CRASH_retry_rename);
    unlinkat(m->home.dirfd, reason, 0);
    f->place = PLACE_work;
    AUTO_FREE char *work = xasprintf("work/%s", f->file_id);
    ledger_sync_dir(m->ledger, work);
    if (!*f->hash) { /* refused before it was read, perhaps for being no file of its own: look at it again from the start */
        f->retrying = false;
        file_set_state(f, FILE_received);
        ledger_put_file(m->ledger, f);
        m->filing->ops->retry(m, f);
        return;
    }
    ledger_put_file(m->ledger, f);
    file_then(m, f, on_retry_committed);
}

static void on_taken_back_across(struct batchmgr *m, struct file *f, int r)
{
    if (r < 0) {
        AUTO_FREE char *why = xasprintf("its bytes could not be taken back into work/: %s", err_text(r));
        f->retrying = false;
        filing_finish(m, f, FILE_rejected, "retry_interrupted", why, NULL);
        return;
    }
    filing_drop_filed(m, f);
    taken_back(m, f);
}

void filing_drop_filed(struct batchmgr *m, const struct file *f)
{
    for (int i = 0; i < 2; i++) {
        AUTO_FREE char *dir = filed_dir(f, i ? PLACE_done : PLACE_quarantine);
        AUTO_FREE char *path = xasprintf("%s/%s", dir, f->file_id);
        fd_remove_tree(m->home.dirfd, path);
    }
}

/* The row says `waiting` in work/ before the rename, so that a crash leaves a live file; recovery looks for the bytes in
 * both places. */
static void on_retry_row(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *work = xasprintf("work/%s", f->file_id);
    AUTO_FREE char *in = xasprintf("work/%s/in", f->file_id);
    bool there = fd_exists(m->home.dirfd, in);
    mkdirat(m->home.dirfd, work, 0711);
    for (int i = 0; i < 2 && !there; i++) {
        AUTO_FREE char *dir = filed_dir(f, i ? PLACE_done : PLACE_quarantine);
        AUTO_FREE char *from = xasprintf("%s/%s", dir, f->file_id);
        there = renameat(m->home.dirfd, from, m->home.dirfd, in) == 0;
        if (!there && errno == EXDEV) {
            cross_device_move(m, f, from, in, on_taken_back_across);
            return;
        }
    }
    if (there)
        taken_back(m, f);
    else
        filing_finish(m, f, FILE_vanished, "vanished", "its bytes are neither in quarantine/ nor in done/", NULL);
}

/* One that is not unfinished, and not of a tenant that is being moved. */
static int get_untouched(struct batchmgr *m, const char *file_id, struct file **ret, struct err *e)
{
    int r = ledger_get_file(m->ledger, file_id, ret, e);
    if (r < 0 || moving_refuse(m, (*ret)->tenant, e) == 0)
        return r;
    file_free(*ret);
    *ret = NULL;
    return ERR_REFUSED;
}

int filing_retry(struct batchmgr *m, const char *file_id, struct err *e)
{
    struct file *f = file_find(m, file_id);
    if (f && f->retrying)
        return 0; /* asked for a second time */
    if (f && f->lead)
        f = f->lead; /* they wait together */
    if (f && f->state == FILE_waiting && !f->behind) {
        file_timer_stop(f);
        fair_queue_remove(m->fair_queue, f);
        f->not_before_wall_ms = 0;
        f->attempts = 0;
        f->first_temp_wall_ms = 0;
        m->filing->ops->queue(m, f);
        return 0;
    }
    if (f && is_failure(f->state) && place_for(m, f) != PLACE_gone) {
        f->retry_asked = true;
        return 0;
    }
    if (f)
        return err_refuse(e, "state", 0, "file %s is %s already", file_id, file_state_name(f->state));
    int r = get_untouched(m, file_id, &f, e);
    if (r < 0)
        return r;
    if (!is_failure(f->state) || (f->place != PLACE_quarantine && f->place != PLACE_done)) {
        r = err_refuse(e, "state", 0,
                       "file %s is %s%s; only quarantined and rejected files whose bytes were kept can be "
                       "retried",
                       file_id, file_state_name(f->state), f->place == PLACE_gone ? " and its bytes are gone" : "");
        file_free(f);
        return r;
    }
    file_drop_output(f); /* the app may have been repaired */
    file_set_state(f, FILE_waiting);
    f->attempts = f->losses = 0;
    f->first_temp_wall_ms = f->not_before_wall_ms = f->ended_wall_ms = 0;
    xstr_set(&f->reason, NULL);
    xstr_set(&f->detail, NULL);
    f->place = PLACE_work;
    f->retrying = true;
    file_add(m, f);
    ledger_put_file(m->ledger, f);
    file_then(m, f, on_retry_row);
    return 0;
}

/* ---- what nobody wants any more ---- */

int filing_discard(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *path = filing_path(f);
    int r = f->place == PLACE_gone ? 0 : spawner_discard(m->spawner, m->home.dirfd, path);
    f->place = PLACE_gone;
    return r;
}

static int refuse_delete(const struct file *f, struct err *e)
{
    return err_refuse(e, "state", 0, "file %s is %s; only quarantined and rejected files can be deleted", f->file_id,
                      file_state_name(f->state));
}

/* The bytes go first, as with retention: killed in between, it is asked for again. */
int filing_delete(struct batchmgr *m, const char *file_id, void (*fn)(void *arg), void *arg, void (*drop)(void *arg), struct err *e)
{
    struct file *f = file_find(m, file_id);
    if (f)
        return is_failure(f->state) ? err_refuse(e, "busy", BUSY_RETRY_S, "file %s is still on its way to quarantine/", file_id)
                                    : refuse_delete(f, e);
    int r = get_untouched(m, file_id, &f, e);
    if (r < 0)
        return r;
    if (!is_failure(f->state))
        r = refuse_delete(f, e);
    else if ((r = filing_discard(m, f)) < 0)
        err_sys(e, r, "cannot remove file %s", file_id);
    crash_at(CRASH_delete_files);
    if (r == 0) {
        log_info("deleted", f->tenant, NULL, "%s (%s/%s) by command", f->file_id, f->dataset, f->name);
        ledger_put_file(m->ledger, f);
        ledger_then(m->ledger, fn, arg, drop);
    }
    file_free(f);
    return r;
}

int filing_check_tenant(struct batchmgr *m, const char *file_id, const char *tenant, struct err *e)
{
    struct file *live = file_find(m, file_id), *filed = NULL;
    int r = live ? 0 : ledger_get_file(m->ledger, file_id, &filed, e);
    if (r == 0 && strcmp((live ? live : filed)->tenant, tenant) != 0)
        r = err_set(e, -ENOENT, "no file %s in the ledger", file_id);
    file_free(filed);
    return r;
}

void filing_start(struct batchmgr *m, const struct filing_ops *ops)
{
    m->filing = xcalloc(1, sizeof *m->filing);
    m->filing->ops = ops;
}

void filing_stop(struct batchmgr *m)
{
    free(m->filing);
    m->filing = NULL;
}
