/* The last minutes of what the board shows, for curves: of each app, and of each tenant's files. */
#include "monitor.h"

#include <math.h>
#include <string.h>

void history_take_app(const struct monitor *m, struct app *a, const struct metric_row *row)
{
    const double *v = row->number;
    trend_take(&a->trends[METRIC_TREND_in_per_s], m->now_ms, v[METRIC_in_per_s]);
    trend_take(&a->trends[METRIC_TREND_acked_per_s], m->now_ms, v[METRIC_acked_per_s]);
    trend_take(&a->trends[METRIC_TREND_backlog], m->now_ms, v[METRIC_ready] + v[METRIC_leased]);
    trend_take(&a->trends[METRIC_TREND_instances], m->now_ms, v[METRIC_instances]);
}

/* Between two looks at a counter that begins anew with its program. */
static double rate(double before, double now, int64_t ms)
{
    return ms > 0 && now >= before ? (now - before) * 1000 / (double)ms : NAN;
}

static void take_files(const struct monitor *m, struct mtenant *t, const bson_t *row)
{
    const double arrived = json_get_f64(row, "arrived", NAN), settled = json_get_f64(row, "settled", NAN);
    const int64_t ms = t->files_ms ? m->now_ms - t->files_ms : 0;
    trend_take(&t->trends[METRIC_TREND_in_per_s], m->now_ms, rate(t->arrived, arrived, ms));
    trend_take(&t->trends[METRIC_TREND_acked_per_s], m->now_ms, rate(t->settled, settled, ms));
    trend_take(&t->trends[METRIC_TREND_backlog], m->now_ms, json_get_f64(row, "unfinished", NAN));
    trend_take(&t->trends[METRIC_TREND_instances], m->now_ms, json_get_f64(row, "running", NAN));
    t->files_ms = m->now_ms;
    t->arrived = arrived;
    t->settled = settled;
}

void history_take_batch(struct monitor *m)
{
    bson_iter_t it;
    bson_t row;
    if (!m->batch || !json_get_iter(m->batch, "tenants", &it))
        return;
    while (json_next_doc(&it, &row)) {
        struct mtenant *t = map_get(&m->tenants, json_get_str(&row, "tenant_id", ""));
        if (t)
            take_files(m, t, &row);
    }
}

static void add_curves(const struct monitor *m, const struct trend *curves, struct buf *out)
{
    for (int i = 0; i < METRIC_N_TRENDS; i++)
        trend_json(&curves[i], m->now_ms, metric_trend_name((enum metric_trend)i), out);
}

void history_add(const struct monitor *m, const char *tenant, struct buf *out)
{
    size_t i = 0;
    json_i64(out, "slot", trend_slot(m->now_ms));
    json_i64(out, "slot_ms", TREND_SLOT_MS);
    json_begin(out, "apps", '[');
    for (const struct app *a; (a = map_next(&m->apps, &i));) {
        if (tenant && strcmp(tenant, a->tenant) != 0)
            continue;
        json_begin(out, NULL, '{');
        json_str(out, "tenant_id", a->tenant);
        json_str(out, "app", a->name);
        add_curves(m, a->trends, out);
        json_end(out, '}');
    }
    json_end(out, ']');
    i = 0;
    json_begin(out, "files", '[');
    for (const struct mtenant *t; (t = map_next(&m->tenants, &i));) {
        if (!t->files_ms || (tenant && strcmp(tenant, t->id) != 0))
            continue;
        json_begin(out, NULL, '{');
        json_str(out, "tenant_id", t->id);
        add_curves(m, t->trends, out);
        json_end(out, '}');
    }
    json_end(out, ']');
}
