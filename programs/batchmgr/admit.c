#include "admit.h"
#include "deletions.h"
#include "files.h"
#include "filing.h"
#include "inspect.h"
#include "ledger.h"
#include "release.h"
#include "state.h"
#include "tenants.h"

#include "base/clk.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "read/format.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct contents {
    struct map in_flight; /* content_key -> the file that has it */
};

enum { UNCONFIGURED_POLL_MS = 1000, DELETION_POLL_MS = 200 };

static void reject(struct batchmgr *m, struct file *f, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void reject(struct batchmgr *m, struct file *f, const char *reason, const char *fmt, ...)
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
        reject(m, f, "max_files_in_staging", "%lld files of the %s are not finished; %lld are allowed", (long long)u->n_live - 1,
               whose, (long long)l->max_files_in_staging);
    else if (l->max_files_per_day >= 0 && u->files_today + 1 > l->max_files_per_day)
        reject(m, f, "max_files_per_day", "%lld files of the %s were taken today (UTC); %lld are allowed",
               (long long)u->files_today, whose, (long long)l->max_files_per_day);
    else if (l->max_bytes_per_day >= 0 && u->bytes_today + f->size > l->max_bytes_per_day)
        reject(m, f, "max_bytes_per_day", "%lld bytes of the %s were taken today (UTC), this file has %lld; %lld are allowed",
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
        reject(m, f, "tenant_removed", "the tenant was removed");
        return;
    }
    if (!c) { /* the tenant's configuration was taken away meanwhile: it is suspended, its files wait */
        file_timer(m, f, UNCONFIGURED_POLL_MS, admit_claimed);
        return;
    }
    if (!d) {
        reject(m, f, "no_dataset", "the tenant's configuration has no dataset \"%s\"", f->dataset);
        return;
    }
    const char *refusal = conf_format_refusal(m->conf, c, d, format);
    if (refusal) {
        reject(m, f, refusal, "\"%s\" is not a format of dataset %s (%s; the ending of the name decides)", ending, d->name,
               d->format);
        return;
    }
    struct conf_limits l = conf_effective_limits(c, d);
    struct usage *u = tenant_usage(t, f->dataset);
    today(m, t->id, NULL, &t->usage);
    today(m, t->id, f->dataset, u);
    if (l.max_file_bytes >= 0 && f->size > l.max_file_bytes) {
        reject(m, f, "max_file_bytes", "%lld bytes; %lld are allowed", (long long)f->size, (long long)l.max_file_bytes);
        return;
    }
    if (!keeps_quotas(m, f, &c->limits, &t->usage, "tenant") || !keeps_quotas(m, f, &d->limits, u, "dataset"))
        return;
    if (!conf_route(c, f->app, f->dataset, f->name)) {
        if (f->app)
            reject(m, f, "no_app", "the tenant has no app \"%s\" that takes dataset %s", f->app, f->dataset);
        else
            reject(m, f, "no_app", "no app of the tenant takes dataset %s and this name", f->dataset);
        return;
    }
    take(t, f, 1);
    inspect_submit(m, f);
}

static char *content_key(const struct file *f)
{
    return xasprintf("%s/%s/%s", f->tenant, f->dataset, f->hash);
}

void admit_index(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *key = content_key(f);
    if (*f->hash && !map_get(&m->contents->in_flight, key))
        map_put(&m->contents->in_flight, key, f);
}

void admit_unindex(struct batchmgr *m, struct file *f)
{
    AUTO_FREE char *key = content_key(f);
    if (*f->hash && map_get(&m->contents->in_flight, key) == f)
        map_remove(&m->contents->in_flight, key);
}

/* Looks for the same content: ingested before, the file is a duplicate; in flight, it waits for that one's end. True when the file
 * goes no further now. */
static bool is_repeated(struct batchmgr *m, struct file *f)
{
    char id[ID_SIZE], prefix[33], detail[200];
    int64_t group_n;
    AUTO_FREE char *key = content_key(f);
    struct file *other = map_get(&m->contents->in_flight, key);
    if (other && other != f) {
        f->behind = other;
        other->n_followers++;
        snprintf(detail, sizeof detail, "same content as file %s, which is not finished yet", other->file_id);
        xstr_set(&f->reason, "same_content");
        xstr_set(&f->detail, detail);
        file_set_state(f, FILE_waiting);
        ledger_put_file(m->ledger, f);
        return true;
    }
    if (f->force && deletions_are_going(m, f->tenant)) { /* retention may be deleting the rows that this upload replaces */
        if (f->state != FILE_waiting)
            file_set_state(f, FILE_waiting);
        xstr_set(&f->reason, "documents_days");
        ledger_put_file(m->ledger, f);
        file_timer(m, f, DELETION_POLL_MS, admit_again);
        return true;
    }
    map_put(&m->contents->in_flight, key, f);
    if (!ledger_find_ingested(m->ledger, f->tenant, f->dataset, f->hash, id, prefix, &group_n))
        return false;
    if (f->force && group_n > 1) {
        admit_unindex(m, f);
        reject(m, f, "group",
               "file %s has the same content and was ingested by one run together with %lld others, whose rows cannot "
               "be told apart: it cannot be replaced alone",
               id, (long long)group_n - 1);
        return true;
    }
    if (f->force) {
        file_add_old_prefix(f, prefix);
        return false;
    }
    snprintf(detail, sizeof detail, "same content as file %s", id);
    admit_unindex(m, f);
    filing_finish(m, f, FILE_duplicate, "duplicate", detail, NULL);
    return true;
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
        reject(m, f, re->reason, "%s", re->detail);
        return;
    }
    if (re->status != INSPECT_OK) {
        untake(m, f);
        reject(m, f, "inspect", "%s", re->detail);
        return;
    }
    sodium_bin2hex(f->hash, sizeof f->hash, re->hash, sizeof re->hash);
    f->rows = re->rows;
    f->columns = re->columns;
    keep_quality(f, re, figures);
    if (!is_repeated(m, f))
        admit_queue(m, f);
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
        admit_unindex(m, f);
        if (purging)
            reject(m, f, "tenant_removed", "the tenant was removed");
        else
            reject(m, f, "no_app", "no app of the tenant takes dataset %s and this name any more", f->dataset);
        return;
    }
    admit_index(m, f);
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

void admit_again(struct batchmgr *m, struct file *f)
{
    if (!is_repeated(m, f))
        admit_queue(m, f);
}

void admit_followers(struct batchmgr *m, struct file *f)
{
    struct file *heir = NULL;
    char detail[200];
    size_t i = 0;
    admit_unindex(m, f);
    if (!f->n_followers)
        return;
    for (struct file *other; (other = map_next(&m->files, &i));) {
        if (other->behind != f)
            continue;
        other->behind = NULL;
        if (f->state == FILE_ingested && !other->force) {
            snprintf(detail, sizeof detail, "same content as file %s", f->file_id);
            filing_finish(m, other, FILE_duplicate, "duplicate", detail, NULL);
        } else if (!heir) {
            heir = other;
            if (f->state == FILE_ingested)
                file_add_old_prefix(other, f->prefix);
            xstr_set(&other->reason, NULL);
            xstr_set(&other->detail, NULL);
            admit_queue(m, other);
        } else {
            other->behind = heir;
            heir->n_followers++;
        }
    }
}

void admit_start(struct batchmgr *m)
{
    m->contents = xcalloc(1, sizeof *m->contents);
}

void admit_stop(struct batchmgr *m)
{
    if (m->contents)
        map_fini(&m->contents->in_flight);
    free(m->contents);
    m->contents = NULL;
}
