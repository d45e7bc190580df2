#include "windows.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FORGET_MS = 60000, MIN_INTERVAL_MS = 1000, MAX_INTERVAL_MS = 60000, SPARE_MS = 2000, MISSED = 3 };

static void forget(struct reporting *r)
{
    free(r->id);
    free(r->boot);
    free(r->error);
    free(r->buckets);
    free(r);
}

void windows_fini(struct windows *w)
{
    size_t i = 0;
    for (struct reporting *r; (r = map_next(&w->instances, &i));)
        forget(r);
    map_fini(&w->instances);
    free(w->hists);
    *w = (struct windows){0};
}

static double or_zero(double v)
{
    return isnan(v) ? 0 : v;
}

/* ---- taking ---- */

static int refuse(struct err *e, enum report_refusal *ret_why, enum report_refusal why, const char *what)
{
    *ret_why = why;
    return err_set(e, ERR_FORMAT, "%s", what);
}

static void add(struct windows *w, int64_t now_ms, double messages, double bytes, double errors, double busy_s)
{
    int64_t second = now_ms / 1000;
    size_t i = (size_t)second % WINDOW_SLICES;
    if (w->slices[i].second != second) {
        memset(&w->slices[i], 0, sizeof w->slices[i]);
        w->slices[i].second = second;
    }
    w->slices[i].messages += messages;
    w->slices[i].bytes += bytes;
    w->slices[i].errors += errors;
    w->slices[i].busy_s += busy_s;
}

static struct hist *hist_of(struct windows *w, int64_t now_ms)
{
    int64_t tens = now_ms / (1000 * WINDOW_HIST_S);
    size_t i = (size_t)tens % WINDOW_HISTS;
    if (!w->hists)
        w->hists = xcalloc(WINDOW_HISTS, sizeof *w->hists);
    if (w->hists[i].tens != tens) {
        memset(&w->hists[i], 0, sizeof w->hists[i]);
        w->hists[i].tens = tens;
    }
    return &w->hists[i].h;
}

static void keep_counters(struct reporting *i, const struct report *r)
{
    i->counts = true;
    i->messages = r->messages;
    i->bytes = or_zero(r->bytes);
    i->errors = or_zero(r->errors);
    i->busy_s = or_zero(r->busy_s);
    if (!r->n_buckets)
        return;
    if (!i->buckets)
        i->buckets = xcalloc(HIST_BUCKETS, sizeof *i->buckets);
    for (size_t k = 0; k < r->n_buckets; k++)
        i->buckets[r->buckets[k].bucket] = (uint32_t)r->buckets[k].n;
}

static double since(double now, double before)
{
    double d = or_zero(now) - before;
    return d > 0 ? d : 0;
}

/* What happened since the counters that are known. */
static void take_counters(struct windows *w, struct reporting *i, const struct report *r, int64_t now_ms)
{
    add(w, now_ms, since(r->messages, i->messages), since(r->bytes, i->bytes), since(r->errors, i->errors),
        since(r->busy_s, i->busy_s));
    for (size_t k = 0; k < r->n_buckets; k++) {
        uint32_t n = (uint32_t)r->buckets[k].n - (i->buckets ? i->buckets[r->buckets[k].bucket] : 0);
        if (n && n < UINT32_MAX / 2)
            hist_add_bucket(hist_of(w, now_ms), r->buckets[k].bucket, n);
    }
    if (!r->n_buckets && since(r->messages, i->messages) > 0 && since(r->busy_s, i->busy_s) > 0)
        hist_add(hist_of(w, now_ms), since(r->busy_s, i->busy_s) / since(r->messages, i->messages) * 1e6,
                 (uint64_t)since(r->messages, i->messages));
}

/* Rates hold for the time that was measured, but not for what an earlier report told of already. */
static void take_rates(struct windows *w, const struct reporting *i, const struct report *r, bool is_new, int64_t now_ms)
{
    int64_t measured = r->from_ms && r->to_ms ? r->to_ms - r->from_ms : MIN_INTERVAL_MS, gap = now_ms - i->seen_ms;
    double span_s = (double)(!is_new && gap < measured ? gap : measured) / 1000;
    double n = or_zero(r->processing_rate) * fmin(span_s, WINDOW_LONG_S);
    add(w, now_ms, n, or_zero(r->throughput) * span_s, 0, n * or_zero(r->average_s));
    if (n > 0 && !isnan(r->average_s))
        hist_add(hist_of(w, now_ms), r->average_s * 1e6, (uint64_t)ceil(n));
}

static bool is_young(const struct report *r, int64_t wall_ms)
{
    return r->began_ms && wall_ms - r->began_ms < WINDOW_LONG_S * 1000;
}

int windows_take(struct windows *w, const struct report *r, const char *id, size_t max_instances, int64_t now_ms, int64_t wall_ms,
                 enum report_refusal *ret_why, struct err *e)
{
    struct reporting *i = map_get(&w->instances, id);
    bool is_new = !i, counts = !isnan(r->messages);
    bool other = i && *r->boot && i->boot && strcmp(i->boot, r->boot) != 0;
    if (i && !other && r->seq >= 0 && i->seq >= 0 && r->seq <= i->seq)
        return refuse(e, ret_why, REPORT_stale, "seq is not above the last one: it was sent twice, or was overtaken");
    if (i && !other && counts && i->counts && r->messages < i->messages) {
        if (*r->boot)
            return refuse(e, ret_why, REPORT_stale, "counters went back without a new boot_id");
        other = true;
    }
    if (!i && w->instances.n >= max_instances)
        return refuse(e, ret_why, REPORT_many_instances, "more instances report than max_instances allows");
    if (!i) {
        i = xcalloc(1, sizeof *i);
        *i = (struct reporting){.id = xstrdup(id), .seq = -1, .interval_ms = MIN_INTERVAL_MS};
        map_put(&w->instances, id, i);
    }
    if (other) { /* it began anew */
        i->counts = false;
        i->messages = i->bytes = i->errors = i->busy_s = 0;
        free(i->buckets);
        i->buckets = NULL;
    }
    if (!w->first_ms)
        w->first_ms = now_ms;
    if (counts) {
        if (i->counts || other || is_young(r, wall_ms))
            take_counters(w, i, r, now_ms);
        else
            add(w, now_ms, 0, 0, 0, 0); /* what it did before we heard of it did not happen now */
        keep_counters(i, r);
    } else {
        take_rates(w, i, r, is_new, now_ms);
    }
    if (*r->boot && (!i->boot || strcmp(i->boot, r->boot)))
        xstr_set(&i->boot, r->boot);
    if (*r->error) {
        xstr_set(&i->error, r->error);
        memcpy(w->error, r->error, sizeof w->error);
        w->error_ms = now_ms;
        if (isnan(r->errors))
            add(w, now_ms, 0, 0, 1, 0);
    }
    if (!is_new) {
        int64_t gap = now_ms - i->seen_ms;
        gap = gap < MIN_INTERVAL_MS ? MIN_INTERVAL_MS : gap > MAX_INTERVAL_MS ? MAX_INTERVAL_MS : gap;
        i->interval_ms += (gap - i->interval_ms) / 4;
    }
    i->seq = r->seq;
    i->seen_ms = w->seen_ms = now_ms;
    return 0;
}

/* ---- who is still there ---- */

static bool is_silent(const struct reporting *r, int64_t now_ms)
{
    return now_ms - r->seen_ms > MISSED * r->interval_ms + SPARE_MS;
}

size_t windows_expire(struct windows *w, int64_t now_ms, int (*alive)(const char *id, void *arg), void *arg, const char **ret_name)
{
    size_t n_silent = 0, i = 0, n_gone = 0;
    AUTO_FREE struct reporting **gone = xmalloc((w->instances.n + 1) * sizeof *gone);
    *ret_name = NULL;
    for (struct reporting *r; (r = map_next(&w->instances, &i));) {
        if (!is_silent(r, now_ms))
            continue;
        int runs = alive(r->id, arg);
        if (runs == 0 || (runs < 0 && now_ms - r->seen_ms > FORGET_MS)) {
            gone[n_gone++] = r;
        } else {
            n_silent++;
            *ret_name = r->id;
        }
    }
    while (n_gone) {
        map_remove(&w->instances, gone[--n_gone]->id);
        forget(gone[n_gone]);
    }
    return n_silent;
}

/* ---- figures ---- */

void windows_figures(const struct windows *w, int64_t now_ms, struct windows_figures *ret)
{
    struct windows_figures f = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, 0};
    struct hist all = {0};
    double n = 0, bytes = 0, busy = 0, long_n = 0, long_busy = 0, errors = 0;
    int64_t now_s = now_ms / 1000, known_ms = now_ms - w->first_ms;
    size_t k = 0;
    if (!w->first_ms) { /* nobody ever reported: most of many apps */
        *ret = f;
        return;
    }
    for (const struct reporting *r; (r = map_next(&w->instances, &k));)
        f.reporting += !is_silent(r, now_ms);
    f.report_age_s = (double)(now_ms - w->seen_ms) / 1000;
    for (size_t i = 0; i < WINDOW_SLICES; i++) {
        int64_t age = now_s - w->slices[i].second;
        if (!w->slices[i].second || age < 0 || age >= WINDOW_LONG_S)
            continue;
        long_n += w->slices[i].messages;
        long_busy += w->slices[i].busy_s;
        errors += w->slices[i].errors;
        if (age > WINDOW_RATE_S)
            continue;
        n += w->slices[i].messages;
        bytes += w->slices[i].bytes;
        busy += w->slices[i].busy_s;
    }
    for (size_t i = 0; w->hists && i < WINDOW_HISTS; i++)
        if (now_s / WINDOW_HIST_S - w->hists[i].tens < WINDOW_HISTS)
            hist_merge(&all, &w->hists[i].h);
    if (f.reporting) { /* nobody there is not nothing done */
        double span = fmin(WINDOW_RATE_S + (double)(now_ms % 1000) / 1000, fmax(1, (double)known_ms / 1000));
        f.messages_per_s = n / span;
        f.bytes_per_s = bytes / span;
        f.errors = errors;
    }
    if (n > 0 && busy > 0)
        f.acks_per_busy_s = n / busy;
    if (long_n > 0 && long_busy > 0)
        f.avg_s = long_busy / long_n;
    f.p99_s = hist_quantile(&all, 0.99) / 1e6;
    *ret = f;
}
