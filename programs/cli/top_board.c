/* What `mysimbdp top` knows: the monitor's board, and the last minutes of its figures. */
#include "top.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void top_add_request(struct buf *out, const char *op, const char *tenant)
{
    json_begin(out, NULL, '{');
    json_str(out, "op", op);
    if (tenant)
        json_str(out, "tenant_id", tenant);
    json_end(out, '}');
}

bool top_is_issue(const char *state)
{
    return strcmp(state, "OK") != 0 && strcmp(state, "STOPPED") != 0;
}

static void read_rows(struct top_board *v)
{
    bson_iter_t it;
    bson_t one;
    v->n = 0;
    if (!v->doc || !json_get_iter(v->doc, "rows", &it))
        return;
    while (json_next_doc(&it, &one)) {
        struct top_row r = {json_get_str(&one, "tenant_id", ""), json_get_str(&one, "app", ""),    json_get_str(&one, "state", ""),
                            json_get_str(&one, "why", NULL),     json_get_str(&one, "reason", ""), {0},
                            json_get_i64(&one, "decision", -1)};
        for (int m = 0; m < N_METRICS; m++)
            r.v[m] = json_get_f64(&one, metric_name((enum metric)m), NAN);
        if (v->issues && !top_is_issue(r.state))
            continue;
        v->rows = xgrow(v->rows, v->n, sizeof *v->rows);
        v->rows[v->n++] = r;
    }
}

static int rank(const char *state)
{
    static const char *const order[] = {"STALLED", "WARN", "OK", "STOPPED"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(state, order[i]))
            return i;
    return 4;
}

static int by_name(const struct top_row *a, const struct top_row *b)
{
    int c = strcmp(a->tenant, b->tenant);
    return c ? c : strcmp(a->app, b->app);
}

/* Sort order: texts ascending, figures descending, so that the busiest rows come first; unknown figures last. */
static int by_column(const void *pa, const void *pb, void *arg)
{
    const struct top_row *a = pa, *b = pb;
    const struct top_board *v = arg;
    double x = a->v[v->sort], y = b->v[v->sort];
    int c = 0;
    if (v->sort == METRIC_state)
        c = rank(a->state) - rank(b->state);
    else if (v->sort == METRIC_app)
        c = strcmp(a->app, b->app);
    else if (!metric_is_text(v->sort))
        c = isnan(x) || isnan(y) ? isnan(x) - isnan(y) : x < y ? 1 : x > y ? -1 : 0;
    return (v->reversed ? -c : c) ? (v->reversed ? -c : c) : by_name(a, b);
}

void top_board_arrange(struct top_board *v)
{
    read_rows(v);
    if (v->n)
        qsort_r(v->rows, v->n, sizeof *v->rows, by_column, v);
}

/* ---- curves ---- */

const struct trend *top_curves(const struct top_board *v, const char *tenant, const char *app)
{
    AUTO_FREE char *key = xasprintf("%s/%s", tenant, app);
    return map_get(&v->curves, key);
}

/* Moves those of the array's things from the map to another one. */
static void keep_curves(struct top_board *v, const char *array, struct map *kept)
{
    bson_iter_t it;
    bson_t one;
    if (!json_get_iter(v->doc, array, &it))
        return;
    while (json_next_doc(&it, &one)) {
        AUTO_FREE char *key = xasprintf("%s/%s", json_get_str(&one, "tenant_id", ""), json_get_str(&one, "app", ""));
        struct trend *curves = map_remove(&v->curves, key);
        if (!map_get(kept, key))
            map_put(kept, key, curves ? curves : xcalloc(METRIC_N_TRENDS, sizeof *curves));
    }
}

static void free_curves(struct map *curves)
{
    size_t i = 0;
    for (struct trend *c; (c = map_next(curves, &i));)
        free(c);
    map_fini(curves);
}

void top_board_take(struct top_board *v, bson_t *doc)
{
    struct map kept = {0};
    if (v->doc)
        bson_destroy(v->doc);
    v->doc = doc;
    keep_curves(v, "rows", &kept);
    keep_curves(v, "batch", &kept);
    free_curves(&v->curves);
    v->curves = kept;
    top_board_arrange(v);
}

static void fill(struct trend *c, const bson_t *of, const char *key, int64_t slot)
{
    double v[TREND_SLOTS];
    bson_iter_t it;
    int n = 0;
    if (!json_get_iter(of, key, &it))
        return;
    while (n < TREND_SLOTS && bson_iter_next(&it))
        v[n++] = BSON_ITER_HOLDS_NUMBER(&it) ? bson_iter_as_double(&it) : NAN;
    for (int i = 0; i < n; i++)
        trend_fill(c, slot - n + 1 + i, v[i]);
}

void top_board_take_history(struct top_board *v, const bson_t *doc)
{
    static const char *const arrays[] = {"apps", "files"};
    const int64_t slot = json_get_i64(doc, "slot", 0);
    bson_iter_t it;
    bson_t one;
    if (json_get_i64(doc, "slot_ms", 0) != TREND_SLOT_MS || slot <= 0)
        return;
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++) {
        if (!json_get_iter(doc, arrays[k], &it))
            continue;
        while (json_next_doc(&it, &one)) {
            AUTO_FREE char *key = xasprintf("%s/%s", json_get_str(&one, "tenant_id", ""), json_get_str(&one, "app", ""));
            struct trend *curves = map_get(&v->curves, key);
            for (int i = 0; curves && i < METRIC_N_TRENDS; i++)
                fill(&curves[i], &one, metric_trend_name((enum metric_trend)i), slot);
        }
    }
}

void top_board_fini(struct top_board *v)
{
    if (v->doc)
        bson_destroy(v->doc);
    free(v->rows);
    free_curves(&v->curves);
}
