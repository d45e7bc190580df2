/* The end of a step, as its runner says it, and what follows: the loading of what the app put out is a step more; any other end is
 * the run's, and the verdict says what it means for each of its files (verdict.c). A failure may be the database's, so the verdict
 * waits until the server was asked once more. The run's row and its files' rows are committed together; only then may the runner
 * go. */
#include "run_end.h"
#include "admit.h"
#include "database_health.h"
#include "fair_queue.h"
#include "files.h"
#include "filing.h"
#include "ledger.h"
#include "parking.h"
#include "runs.h"
#include "state.h"
#include "tenants.h"
#include "verdict.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <sodium.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void release(struct run *r)
{
    if (r->charged_at_ms)
        fair_queue_release(r->mgr->fair_queue, r->tenant, &r->demand, clk_now_ms() - r->charged_at_ms);
    r->charged_at_ms = 0;
}

static void add_waited(struct cgroup_waited *sum, const struct cgroup_waited *w)
{
    sum->cpu_s = isnan(sum->cpu_s) ? w->cpu_s : sum->cpu_s + w->cpu_s;
    sum->memory_s = isnan(sum->memory_s) ? w->memory_s : sum->memory_s + w->memory_s;
    sum->io_s = isnan(sum->io_s) ? w->io_s : sum->io_s + w->io_s;
    sum->throttled_s = isnan(sum->throttled_s) ? w->throttled_s : sum->throttled_s + w->throttled_s;
}

static void fill_from_result(struct run *r, const struct run_result *res)
{
    r->outcome = res->outcome;
    r->exit_code = res->exit_code;
    r->signal = res->signal;
    r->forced |= res->forced;
    r->limit = res->limit;
    if (res->error)
        xstr_set(&r->error, res->error);
    xstr_set(&r->node, res->node);
    r->wall_s += res->wall_s;
    r->cpu_s += res->cpu_s;
    add_waited(&r->waited, &res->waited);
    if (res->max_rss_bytes > r->max_rss_bytes)
        r->max_rss_bytes = res->max_rss_bytes;
    r->output_bytes_dropped += res->output_bytes_dropped;
    if (res->network_refused >= 0)
        r->network_refused = (r->network_refused > 0 ? r->network_refused : 0) + res->network_refused;
}

/* The run's end is durable, and its files are not finished. */
static void on_run_end_committed(void *arg)
{
    struct run *r = arg;
    crash_at(CRASH_verdict_commit);
    runs_acknowledge(r->mgr, r);
}

/* Puts the file back to be run again, after delay_ms; with its mates, if it has any. */
void run_end_put_back(struct batchmgr *m, struct file *first, enum file_state state, int64_t delay_ms)
{
    for (struct file *f = first; f; f = f->mate) {
        f->not_before_wall_ms = state == FILE_waiting ? clk_wall_ms() + delay_ms : 0;
        file_set_state(f, state);
        ledger_put_file(m->ledger, f);
    }
    if (state == FILE_waiting)
        file_timer(m, first, delay_ms, admit_queue);
    else
        admit_queue(m, first);
}

/* A group with a kept output waits as it is, since the output is all of theirs; any other is taken apart. */
static void put_all_back(struct run *r, enum file_state state, int64_t delay_ms)
{
    if (*r->file->output_run) {
        run_end_put_back(r->mgr, r->file, state, delay_ms);
        return;
    }
    for (struct file *f = r->file, *next; f; f = next) {
        next = file_take_mate(f);
        run_end_put_back(r->mgr, f, state, delay_ms);
    }
}

/* ---- the end of a run ---- */

static bool step_reads_files(const struct run *r)
{
    return r->step == RUN_STEP_app;
}

/* Rows of all files of the run, -1 when they are not known of one. */
static int64_t inspected_rows(const struct run *r)
{
    int64_t n = 0;
    for (const struct file *f = r->file; f; f = f->mate) {
        if (f->rows < 0)
            return -1;
        n += f->rows;
    }
    return n;
}

/* Reads what the app said of itself. True when it contradicts what the inspection saw, or is malformed. */
static bool take_app_result(struct run *r, const struct run_result *res, bool platform_loader, char **ret_reason, char **ret_why)
{
    struct file *f = r->file;
    struct app_result a;
    struct err e = {0};
    *ret_reason = *ret_why = NULL;
    if (!res->app_result)
        return false;
    if (app_result_parse(res->app_result, strlen(res->app_result), &a, &e) < 0) {
        *ret_why = res->app_result[0] == '(' ? xstrdup(res->app_result) /* the runner's words (programs/runner/collect.c) */
                                             : xasprintf("the result file cannot be read: %s", e.msg);
        return true;
    }
    bool contradicts = false;
    if (a.rows_loaded >= 0 && a.rows_parsed >= 0 && a.rows_loaded + (a.rows_rejected > 0 ? a.rows_rejected : 0) > a.rows_parsed)
        *ret_why = xasprintf("the result file says rows_loaded %lld and rows_rejected %lld of rows_parsed %lld",
                             (long long)a.rows_loaded, (long long)a.rows_rejected, (long long)a.rows_parsed);
    else if (a.rows_parsed >= 0 && a.rows_repaired > a.rows_parsed)
        *ret_why = xasprintf("the result file says rows_repaired %lld of rows_parsed %lld", (long long)a.rows_repaired,
                             (long long)a.rows_parsed);
    else if (res->outcome == RUN_ok && step_reads_files(r) && a.rows_parsed >= 0 && inspected_rows(r) >= 0 &&
             a.rows_parsed != inspected_rows(r))
        *ret_why = xasprintf("the result file says rows_parsed %lld, the inspection counted %lld", (long long)a.rows_parsed,
                             (long long)inspected_rows(r));
    contradicts = *ret_why != NULL;
    if (!contradicts) {
        if (r->n_files > 1) {
            r->rows_parsed = a.rows_parsed;
            r->rows_loaded = a.rows_loaded;
            r->rows_rejected = a.rows_rejected;
            r->rows_repaired = a.rows_repaired;
            r->rows_added = platform_loader ? a.rows_added : -1;
        } else if (r->step != RUN_STEP_check) {
            f->rows_parsed = a.rows_parsed;
            f->rows_loaded = a.rows_loaded;
            f->rows_rejected = a.rows_rejected;
            f->rows_repaired = a.rows_repaired;
            f->rows_added = platform_loader ? a.rows_added : -1;
            if (platform_loader && a.checkpoint >= 0)
                f->checkpoint = a.checkpoint;
        }
        *ret_reason = xstrdup(platform_loader ? a.reason : NULL);
        if (a.error)
            xstr_set(&r->error, a.error);
    }
    app_result_free(&a);
    return contradicts;
}

static double jitter(void)
{
    return (double)randombytes_uniform(1000001) / 1e6;
}

static char *describe_end(const struct run *r)
{
    AUTO_BUF struct buf b = {0};
    buf_addf(&b, "run %s, attempt %lld: %s", r->run_id, (long long)r->attempt, run_outcome_name((enum run_outcome)r->outcome));
    if (r->exit_code >= 0)
        buf_addf(&b, ", exit code %d", r->exit_code);
    if (r->signal > 0)
        buf_addf(&b, ", signal %d (%s)", r->signal, strsignal(r->signal));
    if (r->limit)
        buf_addf(&b, ", limit %s", run_limit_name(r->limit));
    if (r->error)
        buf_addf(&b, ": %s", r->error);
    return xstrndup(b.p, b.n);
}

static bool needs_health_check(const struct run_result *res, const struct run *r)
{
    return !r->stop && res->outcome != RUN_ok && res->outcome != RUN_data_error && res->outcome != RUN_exec_error &&
           !res->not_started && !res->cause;
}

/* The checker let the file pass: it goes on to its app. */
static void on_check_committed(void *arg)
{
    struct run *r = arg;
    crash_at(CRASH_check_commit);
    runs_acknowledge(r->mgr, r);
}

static void conclude_check(struct run *r)
{
    struct batchmgr *m = r->mgr;
    struct file *f = r->file;
    log_info("run_ended", r->tenant, r->run_id, "the checker of app %s let file %s (%s) pass", r->app, f->file_id, f->name);
    f->checked = true;
    xstr_set(&f->reason, NULL);
    xstr_set(&f->detail, NULL);
    ledger_put_run(m->ledger, r);
    run_end_put_back(m, f, FILE_queued, 0);
    ledger_then(m->ledger, on_check_committed, r, NULL);
}

static struct verdict verdict_for(const struct file *f, const struct conf_batch *app, struct verdict_input in)
{
    const struct conf_batch *of = app ? app : conf_batch_defaults();
    in.attempts = f->attempts;
    in.losses = f->losses;
    in.first_temp_wall_ms = f->first_temp_wall_ms;
    in.max_attempts = of->retry.attempts;
    in.backoff_ms = of->retry.backoff_ms;
    in.max_backoff_ms = of->retry.max_backoff_ms;
    in.give_up_s = of->retry.give_up_s;
    in.now_wall_ms = clk_wall_ms();
    in.jitter = jitter();
    return verdict_of(&in);
}

/* What the run means for one of its files. `last`: the run's own end goes with it. */
static void conclude_file(struct run *r, struct file *f, const struct conf_batch *app, const struct verdict *v, const char *detail,
                          bool last)
{
    struct batchmgr *m = r->mgr;
    bool refused = r->step == RUN_STEP_check && r->outcome == RUN_data_error && v->state == FILE_quarantined;
    enum file_state state = refused ? FILE_rejected : v->state;
    f->attempts = v->attempts;
    f->losses = v->losses;
    f->first_temp_wall_ms = v->first_temp_wall_ms;
    log_info("run_ended", r->tenant, r->run_id, "%s; file %s (%s) is %s", detail, f->file_id, f->name, file_state_name(state));
    if (file_state_is_final(state)) {
        filing_finish(m, f, state, refused ? "checker" : v->reason, state == FILE_ingested ? NULL : detail, last ? r : NULL);
        return;
    }
    xstr_set(&f->reason, v->reason);
    xstr_set(&f->detail, state == FILE_queued ? NULL : detail);
    if (r->n_files > 1 && state == FILE_waiting && strcmp(v->reason, "database_down"))
        f->solo = true;
    if (v->park) {
        parking_add(m->parking, r, app);
        file_set_state(f, FILE_waiting);
        ledger_put_file(m->ledger, f);
        fair_queue_add(m->fair_queue, r->app, f);
    } else if (!f->lead) {
        run_end_put_back(m, f, state, v->delay_ms);
    }
}

static void conclude(struct run *r, const struct run_result *res, bool database_down)
{
    struct batchmgr *m = r->mgr;
    const struct conf_tenant *t = conf_tenant(m->conf, r->tenant);
    const struct conf_batch *app = t ? conf_app(t, r->app) : NULL;
    bool loader = r->step == RUN_STEP_load || (app && !strcmp(app->exec, BUILTIN_LOAD));
    AUTO_FREE char *reason = NULL;
    AUTO_FREE char *why = NULL;
    bool contradicts = take_app_result(r, res, loader, &reason, &why);
    struct verdict_input in = {
        .outcome = res->outcome,
        .not_started = res->not_started,
        .cause = res->cause,
        .group = r->n_files > 1,
        .contradicts = contradicts && res->outcome == RUN_ok,
        .database_down = database_down, /* the loader's word alone is not enough: its document may be what ends connections */
        .stop = r->stop,
        .reason = reason,
    };
    run_set_state(r, RUN_STATE_ended);
    r->ended_wall_ms = res->ended_wall_ms ? res->ended_wall_ms : clk_wall_ms();
    if (in.contradicts) {
        r->outcome = RUN_failed;
        xstr_set(&r->error, why);
    }
    release(r);
    if (r->step == RUN_STEP_check && r->outcome == RUN_ok && !r->stop) {
        conclude_check(r);
        return;
    }
    AUTO_FREE char *detail = describe_end(r);
    struct file *first = r->file;
    struct verdict v = verdict_for(first, app, in);
    bool final = file_state_is_final(v.state), stays = !final && !v.park && *first->output_run;
    if (!final)
        ledger_put_run(m->ledger, r);
    /* A group that stays together has one verdict; otherwise each file has its own, as it may have been tried before. */
    for (struct file *f = stays ? first->mate : first, *next; f; f = next) {
        next = stays ? f->mate : file_take_mate(f);
        if (f != first && !stays)
            v = verdict_for(f, app, in);
        conclude_file(r, f, app, &v, detail, !next);
    }
    if (stays)
        conclude_file(r, first, app, &v, detail, true);
    if (!final)
        ledger_then(m->ledger, on_run_end_committed, r, NULL);
}

void run_end_on_health(struct batchmgr *m)
{
    size_t i = 0;
    for (struct run *r; (r = runs_next(m, &i));) {
        struct health *h = tenant_get(m, r->tenant)->health;
        if (!r->pending || (h && health_checked(h) < r->check))
            continue;
        struct run_result *res = r->pending;
        int64_t down = h ? health_last_down_ms(h) : -1;
        bool was_down = h && (!health_is_up(h, NULL, 0) || down >= r->charged_at_ms);
        r->pending = NULL;
        conclude(r, res, was_down);
        run_result_free(res);
        free(res);
    }
}

static void keep_output(struct run *r)
{
    for (struct file *f = r->file; f; f = f->mate) {
        memcpy(f->output_run, r->run_id, ID_SIZE);
        f->checkpoint = 0;
    }
}

void run_end_step(struct run *r, struct run_result *res, void (*load)(void *arg))
{
    struct batchmgr *m = r->mgr;
    bool app_step = r->step == RUN_STEP_app;
    fill_from_result(r, res);
    if (app_step && res->outcome == RUN_ok && r->output != RUN_OUTPUT_none && !r->stop) {
        char *reason = NULL, *why = NULL;
        bool contradicts = take_app_result(r, res, false, &reason, &why);
        free(reason);
        free(why);
        if (!contradicts) {
            keep_output(r);
            r->step = RUN_STEP_load;
            r->load_wall_ms = clk_wall_ms();
            ledger_put_run(m->ledger, r);
            for (struct file *f = r->file; f; f = f->mate)
                ledger_put_file(m->ledger, f);
            ledger_then(m->ledger, load, r, NULL);
            run_result_free(res);
            free(res);
            return;
        }
    }
    if (app_step && res->outcome == RUN_ok && r->output != RUN_OUTPUT_none && r->stop) {
        /* It printed everything before the stop reached it; loading that is left for later. */
        keep_output(r);
        res->outcome = RUN_killed;
        r->outcome = RUN_killed;
    }
    struct health *h = tenant_get(m, r->tenant)->health;
    if (h && needs_health_check(res, r)) {
        r->pending = res;
        r->check = health_check(h);
        return;
    }
    conclude(r, res, false);
    run_result_free(res);
    free(res);
}

/* Puts the run's row. The caller says what becomes of its files. */
static void come_to_nothing(struct run *r, const char *why)
{
    run_set_state(r, RUN_STATE_ended);
    r->outcome = RUN_lost;
    r->ended_wall_ms = clk_wall_ms();
    xstr_set(&r->error, why);
    release(r);
    ledger_put_run(r->mgr->ledger, r);
}

/* The platform could not run it: the file goes back as if it had not been tried. */
void run_end_cancel(struct run *r, const char *why, int64_t delay_ms)
{
    struct batchmgr *m = r->mgr;
    log_warn("run_cancelled", r->tenant, r->run_id, "%s", why);
    come_to_nothing(r, why);
    put_all_back(r, delay_ms ? FILE_waiting : FILE_queued, delay_ms);
    ledger_then(m->ledger, on_run_end_committed, r, NULL);
}

static bool has_bytes(const struct batchmgr *m, const struct file *f)
{
    AUTO_FREE char *path = file_in_path(f, f->safe);
    return !fd_is_gone(m->home.dirfd, path);
}

bool run_end_bytes_are_gone(const struct run *r)
{
    for (const struct file *f = r->step == RUN_STEP_load ? NULL : r->file; f; f = f->mate)
        if (!has_bytes(r->mgr, f))
            return true;
    return false;
}

/* Somebody removed a file's bytes from work/. The app is not charged, and a retry would not bring them back. The other files of a
 * group run again. */
void run_end_without_bytes(struct run *r)
{
    struct batchmgr *m = r->mgr;
    come_to_nothing(r, "the bytes of its file are gone from work/");
    for (struct file *f = r->file, *next; f; f = next) {
        next = file_take_mate(f);
        if (has_bytes(m, f)) {
            run_end_put_back(m, f, FILE_queued, 0);
            continue;
        }
        log_error("bytes_gone", f->tenant, r->run_id, "work/%s/in/%s of file %s (%s) is gone", f->file_id, f->safe, f->file_id,
                  f->name);
        filing_finish(m, f, FILE_vanished, "vanished", "its bytes are gone from work/; deliver it again", NULL);
    }
    ledger_then(m->ledger, on_run_end_committed, r, NULL);
}
