#include "admit.h"
#include "duplicates.h"
#include "files.h"
#include "filing.h"
#include "inspect.h"
#include "ledger.h"
#include "release.h"
#include "state.h"
#include "tenants.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "read/format.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { UNCONFIGURED_POLL_MS = 1000 };

void admit_reject(struct batchmgr *m, struct file *f, const char *reason, const char *fmt, ...)
{
    char detail[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    log_info("rejected", f->tenant, NULL, "%s (%s/%s): %s: %s", f->file_id, f->dataset, f->name, reason, detail);
    filing_finish(m, f, FILE_rejected, reason, detail, NULL);
}

static void today(struct batchmgr *m, const char *tenant, const char *dataset, struct usage *u)
{
    int64_t day = clk_day(clk_wall_ms());
    if (u->day == day)
        return;
    u->day = day;
    ledger_taken_since(m->ledger, tenant, dataset, day * 86400000, &u->files_today, &u->bytes_today);
}

/* Checks the limits on how much the tenant, or its dataset, has delivered. False: the file was rejected. */
static bool keeps_quotas(struct batchmgr *m, struct file *f, const struct conf_limits *l, const struct usage *u, const char *whose)
{
    if (l->max_files_in_staging >= 0 && u->n_live > l->max_files_in_staging)
        admit_reject(m, f, "max_files_in_staging", "%lld files of the %s are not finished; %lld are allowed",
                     (long long)u->n_live - 1, whose, (long long)l->max_files_in_staging);
    else if (l->max_files_per_day >= 0 && u->files_today + 1 > l->max_files_per_day)
        admit_reject(m, f, "max_files_per_day", "%lld files of the %s were taken today (UTC); %lld are allowed",
                     (long long)u->files_today, whose, (long long)l->max_files_per_day);
    else if (l->max_bytes_per_day >= 0 && u->bytes_today + f->size > l->max_bytes_per_day)
        admit_reject(m, f, "max_bytes_per_day", "%lld bytes of the %s were taken today (UTC), this file has %lld; %lld are allowed",
                     (long long)u->bytes_today, whose, (long long)f->size, (long long)l->max_bytes_per_day);
    else
        return true;
    return false;
}

/* Counts the file against the daily limits, or with -1 takes it back. */
static void take(struct tenant *t, const struct file *f, int by)
{
    struct usage *both[] = {&t->usage, tenant_usage(t, f->dataset)};
    for (int i = 0; i < 2; i++) {
        both[i]->files_today += by;
        both[i]->bytes_today += by * f->size;
    }
}

void admit_claimed(struct batchmgr *m, struct file *f)
{
    struct tenant *t = tenant_get(m, f->tenant);
    const struct conf_tenant *c = tenant_conf(m, t);
    const struct conf_dataset *d = c ? conf_dataset(c, f->dataset) : NULL;
    AUTO_FREE char *ending = format_ending(f->name);
    enum reader_format known;
    const char *format = format_of_name(f->name, &known) == 0 ? format_name(known) : ending;
    if (t->purging) {
        admit_reject(m, f, "tenant_removed", "the tenant was removed");
        return;
    }
    if (!c) { /* the tenant's configuration was taken away meanwhile: it is suspended, its files wait */
        file_timer(m, f, UNCONFIGURED_POLL_MS, admit_claimed);
        return;
    }
    if (!d) {
        admit_reject(m, f, "no_dataset", "the tenant's configuration has no dataset \"%s\"", f->dataset);
        return;
    }
    const char *refusal = conf_format_refusal(m->conf, c, d, format);
    if (refusal) {
        admit_reject(m, f, refusal, "\"%s\" is not a format of dataset %s (%s; the ending of the name decides)", ending, d->name,
                     d->format);
        return;
    }
    struct conf_limits l = conf_effective_limits(c, d);
    struct usage *u = tenant_usage(t, f->dataset);
    today(m, t->id, NULL, &t->usage);
    today(m, t->id, f->dataset, u);
    if (l.max_file_bytes >= 0 && f->size > l.max_file_bytes) {
        admit_reject(m, f, "max_file_bytes", "%lld bytes; %lld are allowed", (long long)f->size, (long long)l.max_file_bytes);
        return;
    }
    if (!keeps_quotas(m, f, &c->limits, &t->usage, "tenant") || !keeps_quotas(m, f, &d->limits, u, "dataset"))
        return;
    if (!conf_route(c, f->app, f->dataset, f->name)) {
        if (f->app)
            admit_reject(m, f, "no_app", "the tenant has no app \"%s\" that takes dataset %s", f->app, f->dataset);
        else
            admit_reject(m, f, "no_app", "no app of the tenant takes dataset %s and this name", f->dataset);
        return;
    }
    take(t, f, 1);
    inspect_submit(m, f);
}

/* A file that is refused after its inspection does not count against the daily limits; after a restart neither (the ledger's query
 * leaves it out). */
static void untake(struct batchmgr *m, const struct file *f)
{
    struct tenant *t = tenant_get(m, f->tenant);
    if (clk_day(f->received_wall_ms) == t->usage.day)
        take(t, f, -1);
}

static void keep_quality(struct file *f, const struct inspect_reply *re, const char *figures)
{
    AUTO_BUF struct buf q = {0};
    json_begin(&q, NULL, '{');
    json_i64(&q, "rows", re->rows);
    json_i64(&q, "columns", re->columns);
    json_i64(&q, "bytes", re->bytes);
    json_i64(&q, "longest_row_bytes", re->longest_row_bytes);
    json_i64(&q, "rejects", re->rejects);
    json_i64(&q, "rows_repaired", re->repaired);
    if (figures) {
        buf_adds(&q, ",");
        buf_adds(&q, figures);
    }
    json_end(&q, '}');
    xstr_set(&f->quality, q.p);
}

void admit_inspected(struct batchmgr *m, struct file *f, const struct inspect_reply *re, const char *figures)
{
    if (re->status == INSPECT_REFUSED) {
        f->rows = re->rows;
        keep_quality(f, re, figures);
        untake(m, f);
        admit_reject(m, f, re->reason, "%s", re->detail);
        return;
    }
    if (re->status != INSPECT_OK) {
        untake(m, f);
        admit_reject(m, f, "inspect", "%s", re->detail);
        return;
    }
    sodium_bin2hex(f->hash, sizeof f->hash, re->hash, sizeof re->hash);
    f->rows = re->rows;
    f->columns = re->columns;
    keep_quality(f, re, figures);
    duplicates_check(m, f);
}

void admit_queue(struct batchmgr *m, struct file *f)
{
    const struct conf_tenant *c = conf_tenant(m->conf, f->tenant);
    const struct conf_batch *app = c ? conf_route(c, f->app, f->dataset, f->name) : NULL;
    bool purging = tenant_get(m, f->tenant)->purging;
    if (purging || (c && !app)) {
        for (struct file *mate = file_take_mate(f), *next; mate; mate = next) { /* a group that waited with its output */
            next = file_take_mate(mate);
            admit_queue(m, mate);
        }
        duplicates_unindex(m, f);
        if (purging)
            admit_reject(m, f, "tenant_removed", "the tenant was removed");
        else
            admit_reject(m, f, "no_app", "no app of the tenant takes dataset %s and this name any more", f->dataset);
        return;
    }
    duplicates_index(m, f);
    if (f->state != FILE_queued) {
        bool first = f->state == FILE_received;
        file_set_state(f, FILE_queued);
        if (first) {
            xstr_set(&f->reason, NULL);
            xstr_set(&f->detail, NULL);
        }
        ledger_note_file(m->ledger,
                         f); /* need not be durable at once: recovery would inspect the file, or let it wait, once more */
    }
    release_add(m, f, app);
}
