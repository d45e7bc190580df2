#include "journal.h"
#include "ledger.h"
#include "state.h"
#include "tenants.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/tenant_events.h"

#include <string.h>

struct lines {
    char *tenant;
    struct buf text;
};

struct journal {
    struct map lines; /* tenant -> struct lines, of this commit */
};

static struct buf *lines_of(struct batchmgr *m, const char *tenant)
{
    struct lines *l = map_get(&m->journal->lines, tenant);
    if (!l) {
        l = xcalloc(1, sizeof *l);
        l->tenant = xstrdup(tenant);
        map_put(&m->journal->lines, tenant, l);
    }
    return &l->text;
}

static void begin(struct buf *line, enum tenant_event event, int64_t wall_ms, const char *tenant, const char *dataset)
{
    json_begin(line, NULL, '{');
    json_time(line, "ts", wall_ms ? wall_ms : clk_wall_ms());
    json_str(line, "event", tenant_event_name(event));
    json_str(line, "tenant_id", tenant);
    json_str(line, "dataset", dataset);
}

static void end(struct batchmgr *m, struct buf *line, const char *tenant)
{
    struct buf *b = lines_of(m, tenant);
    json_end(line, '}');
    buf_add(b, line->p, line->n);
    buf_adds(b, "\n");
}

/* ---- files ---- */

static void begin_file(struct buf *line, enum tenant_event event, int64_t wall_ms, const struct file *f)
{
    begin(line, event, wall_ms, f->tenant, f->dataset);
    json_str(line, "file_id", f->file_id);
    json_str(line, "file_name", f->name);
    if (f->trace)
        json_str(line, "trace", f->trace);
}

static void tell_received(struct batchmgr *m, const struct file *f)
{
    AUTO_BUF struct buf line = {0};
    begin_file(&line, EVENT_file_received, f->received_wall_ms, f);
    json_i64_or_null(&line, "size_bytes", f->size);
    end(m, &line, f->tenant);
}

static void tell_inspected(struct batchmgr *m, const struct file *f)
{
    AUTO_BUF struct buf line = {0};
    begin_file(&line, EVENT_file_inspected, 0, f);
    json_i64_or_null(&line, "size_bytes", f->size);
    json_i64_or_null(&line, "rows", f->rows);
    json_i64_or_null(&line, "columns", f->columns);
    json_str(&line, "content_hash", f->hash);
    json_time(&line, "received_at", f->received_wall_ms);
    end(m, &line, f->tenant);
}

static void tell_state(struct batchmgr *m, const struct file *f)
{
    static const enum tenant_event events[] = {[FILE_received] = EVENT_file_received,
                                               [FILE_queued] = EVENT_file_queued,
                                               [FILE_running] = EVENT_file_running,
                                               [FILE_waiting] = EVENT_file_waiting};
    AUTO_BUF struct buf line = {0};
    bool final = file_state_is_final(f->state);
    begin_file(&line, final ? EVENT_file_verdict : events[f->state], final ? f->ended_wall_ms : 0, f);
    json_str(&line, "state", file_state_name(f->state));
    json_str(&line, "reason", f->reason);
    json_str(&line, "detail", f->detail);
    json_str(&line, "run_id", *f->run_id ? f->run_id : NULL);
    json_i64(&line, "attempts", f->attempts);
    if (f->state == FILE_running && f->queued_wall_ms)
        json_time(&line, "queued_at", f->queued_wall_ms);
    if (f->n_run_files)
        json_i64(&line, "n_files", f->n_run_files);
    if (f->state == FILE_waiting)
        json_time(&line, "until", f->not_before_wall_ms);
    if (final) {
        json_i64_or_null(&line, "size_bytes", f->size);
        json_i64_or_null(&line, "rows_loaded", f->rows_loaded);
        json_i64_or_null(&line, "rows_rejected", f->rows_rejected);
        json_i64_or_null(&line, "rows_repaired", f->rows_repaired);
        json_time(&line, "received_at", f->received_wall_ms);
    }
    end(m, &line, f->tenant);
}

/* What came to its end. Rows of a group are counted for its run. */
static void count(struct batchmgr *m, const char *tenant, int64_t files, int64_t rows)
{
    struct tenant *t = map_get(&m->tenants, tenant);
    if (t)
        throughput_add(&t->throughput, clk_now_ms(), files, rows > 0 ? rows : 0);
}

static void on_file(void *arg, const struct file *f)
{
    struct batchmgr *m = arg;
    if (!f->told)
        tell_received(m, f);
    if (*f->hash && !f->told_read)
        tell_inspected(m, f);
    if (f->told != (int)f->state + 1 && f->state != FILE_received) {
        tell_state(m, f);
        if (file_state_is_final(f->state))
            count(m, f->tenant, 1, f->state == FILE_ingested ? f->rows_loaded : 0);
    }
}

/* ---- runs ---- */

static void begin_run(struct buf *line, enum tenant_event event, int64_t wall_ms, const struct run *r)
{
    begin(line, event, wall_ms, r->tenant, r->dataset);
    json_str(line, "run_id", r->run_id);
    json_str(line, "app", r->app);
    json_str(line, "step", run_step_name(r->step));
    json_str(line, "file_id", *r->file_id ? r->file_id : NULL);
    json_i64(line, "n_files", r->n_files);
    json_i64(line, "attempt", r->attempt);
    if (r->trace)
        json_str(line, "trace", r->trace);
}

static void on_run(void *arg, const struct run *r)
{
    struct batchmgr *m = arg;
    AUTO_BUF struct buf line = {0};
    AUTO_BUF struct buf last = {0};
    if (!r->told) {
        begin_run(&line, EVENT_run_started, r->started_wall_ms, r);
        end(m, &line, r->tenant);
    }
    if (r->state != RUN_STATE_ended || r->told == RUN_STATE_ended + 1)
        return;
    count(m, r->tenant, 0, r->outcome == RUN_ok ? r->rows_loaded : 0);
    begin_run(&last, EVENT_run_ended, r->ended_wall_ms, r);
    json_time(&last, "started_at", r->started_wall_ms);
    if (r->load_wall_ms)
        json_time(&last, "load_at", r->load_wall_ms);
    json_str(&last, "outcome", r->outcome < 0 ? NULL : run_outcome_name((enum run_outcome)r->outcome));
    json_i64_or_null(&last, "exit_code", r->exit_code);
    json_i64_or_null(&last, "signal", r->signal);
    json_str(&last, "limit", run_limit_name(r->limit));
    json_str(&last, "error", r->error);
    json_f64(&last, "wall_s", r->wall_s);
    json_f64(&last, "cpu_s", r->cpu_s);
    run_waited_write(&r->waited, &last);
    json_i64_or_null(&last, "max_rss_bytes", r->max_rss_bytes);
    end(m, &last, r->tenant);
}

/* ---- ---- */

/* All lines of a commit in one write a tenant. */
static void on_committed(void *arg)
{
    struct batchmgr *m = arg;
    size_t i = 0;
    for (struct lines *l; (l = map_next(&m->journal->lines, &i));) {
        int r = tenant_events_add(m->home.dirfd, l->tenant, EVENTS_OF_batch, l->text.p, l->text.n);
        if (r < 0)
            log_warn("journal", l->tenant, NULL, "cannot write logs/tenants/%s/%s: %s", l->tenant, events_file(EVENTS_OF_batch),
                     err_text(r));
        buf_fini(&l->text);
        free(l->tenant);
        free(l);
    }
    map_fini(&m->journal->lines);
}

void journal_start(struct batchmgr *m)
{
    static const struct ledger_watch watch = {on_file, on_run, on_committed};
    m->journal = xcalloc(1, sizeof *m->journal);
    ledger_watch(m->ledger, &watch, m);
}

void journal_stop(struct batchmgr *m)
{
    free(m->journal);
    m->journal = NULL;
}
