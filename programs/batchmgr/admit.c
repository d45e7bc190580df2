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

enum { UNCONFIGURED_POLL_MS = 1000, UNFINISHED_RETRY_S = 5 };

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

/* Until the day is another one. */
static int64_t next_day_s(void)
{
    int64_t now_ms = clk_wall_ms();
    return ((clk_day(now_ms) + 1) * 86400000 - now_ms) / 1000 + 1;
}

/* Checks the limits on how much the tenant, or its dataset, has delivered. A size that is not known is that of the smallest file.
 */
static int check_quotas(const struct conf_limits *l, const struct usage *u, const struct offer *o, const char *whose, struct err *e)
{
    int64_t others = u->n_live - (o->is_here ? 1 : 0), size = o->size >= 0 ? o->size : 1;
    if (l->max_files_in_staging >= 0 && others + 1 > l->max_files_in_staging)
        return err_refuse(e, "max_files_in_staging", UNFINISHED_RETRY_S, "%lld files of the %s are not finished; %lld are allowed",
                          (long long)others, whose, (long long)l->max_files_in_staging);
    if (l->max_files_per_day >= 0 && u->files_today + 1 > l->max_files_per_day)
        return err_refuse(e, "max_files_per_day", l->max_files_per_day > 0 ? next_day_s() : 0,
                          "%lld files of the %s were taken today (UTC); %lld are allowed", (long long)u->files_today, whose,
                          (long long)l->max_files_per_day);
    if (l->max_bytes_per_day >= 0 && u->bytes_today + size > l->max_bytes_per_day)
        return err_refuse(e, "max_bytes_per_day", size <= l->max_bytes_per_day ? next_day_s() : 0,
                          "%lld bytes of the %s were taken today (UTC), this file has %lld%s; %lld are allowed",
                          (long long)u->bytes_today, whose, (long long)size, o->size < 0 ? " at least" : "",
                          (long long)l->max_bytes_per_day);
    return 0;
}

static int check_format(struct batchmgr *m, const struct conf_tenant *c, const struct conf_dataset *d, const char *name,
                        struct err *e)
{
    AUTO_FREE char *ending = format_ending(name);
    enum reader_format known;
    const char *format = format_of_name(name, &known) == 0 ? format_name(known) : ending;
    const char *refusal = conf_format_refusal(m->conf, c, d, format);
    return refusal ? err_refuse(e, refusal, 0, "\"%s\" is not a format of dataset %s (%s; the ending of the name decides)", ending,
                                d->name, d->format)
                   : 0;
}

int admit_check(struct batchmgr *m, struct tenant *t, const struct conf_dataset *d, const struct offer *o, struct err *e)
{
    const struct conf_tenant *c = tenant_conf(m, t);
    struct conf_limits l = conf_effective_limits(c, d);
    struct usage *u = tenant_usage(t, d->name);
    int r = check_format(m, c, d, o->name, e);
    if (r < 0)
        return r;
    today(m, t->id, NULL, &t->usage);
    today(m, t->id, d->name, u);
    if (l.max_file_bytes >= 0 && o->size > l.max_file_bytes)
        return err_refuse(e, "max_file_bytes", 0, "%lld bytes; %lld are allowed", (long long)o->size, (long long)l.max_file_bytes);
    if ((r = check_quotas(&c->limits, &t->usage, o, "tenant", e)) < 0 || (r = check_quotas(&d->limits, u, o, "dataset", e)) < 0)
        return r;
    if (conf_route(c, o->app, d->name, o->name))
        return 0;
    return o->app ? err_refuse(e, "no_app", 0, "the tenant has no app \"%s\" that takes dataset %s", o->app, d->name)
                  : err_refuse(e, "no_app", 0, "no app of the tenant takes dataset %s and this name", d->name);
}

int64_t admit_max_bytes(struct batchmgr *m, struct tenant *t, const struct conf_dataset *d)
{
    const struct conf_tenant *c = tenant_conf(m, t);
    const struct conf_limits *both[] = {&c->limits, &d->limits};
    const struct usage *used[] = {&t->usage, tenant_usage(t, d->name)};
    int64_t most = conf_effective_limits(c, d).max_file_bytes;
    today(m, t->id, NULL, &t->usage);
    today(m, t->id, d->name, tenant_usage(t, d->name));
    for (int i = 0; i < 2; i++) {
        int64_t left = both[i]->max_bytes_per_day - used[i]->bytes_today;
        if (both[i]->max_bytes_per_day >= 0 && (most < 0 || left < most))
            most = left > 0 ? left : 0;
    }
    return most;
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
    struct err e = {0};
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
    if (admit_check(m, t, d, &(struct offer){f->name, f->app, f->size, true}, &e) < 0) {
        admit_reject(m, f, e.reason, "%s", e.msg);
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
