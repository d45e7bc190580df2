/* What `mysimbdp top` shows, as lines of text. */
#include "top.h"
#include "term/plot.h"
#include "term/table.h"

#include "base/clk.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME = 24, NAME_NARROW = 15, NAME_LEAST = 10, DECISION_INDENT = 8, STATE = 7, MAX_RANK = 9 };
static const char decision_name[] = "DECISION";

/* Columns beside state and name. A terminal that is too narrow leaves out those of the highest rank first. */
static const struct column {
    const char *name;
    int width, live, rank; /* live: the width on the live screen */
    int curve;             /* the curve beside it there; -1: none */
    enum metric metric;
    const char *format;
} columns[] = {
    {"IN/S", 8, 6, 1, METRIC_TREND_in_per_s, METRIC_in_per_s, "%.1f"},
    {"ACKED/S", 8, 7, 2, METRIC_TREND_acked_per_s, METRIC_acked_per_s, "%.1f"},
    {"READY", 8, 6, 1, METRIC_TREND_backlog, METRIC_ready, "%.0f"},
    {"LEASED", 7, 6, 5, -1, METRIC_leased, "%.0f"},
    {"OLDEST", 6, 6, 3, -1, METRIC_oldest_age_s, "%.0fs"},
    {"DRAIN", 6, 6, 6, -1, METRIC_drain_s, "%.0fs"},
    {"INST", 6, 5, 1, METRIC_TREND_instances, METRIC_instances, NULL},
    {"AVG ms", 8, 7, 7, -1, METRIC_avg_ms, "%.2f"},
    {"P99 ms", 8, 7, 8, -1, METRIC_p99_ms, "%.2f"},
    {"ERR", 4, 4, 4, -1, METRIC_errors, "%.0f"},
};
enum { N_COLUMNS = sizeof columns / sizeof *columns, RANK_CURVES = 2, LEAST_CURVE = 4, GOOD_CURVE = 6, LARGEST_CURVE = 12 };

/* ---- how it is laid out ---- */

static size_t width_of(const struct column *c, const struct top_layout *l)
{
    return (size_t)(l->live ? c->live : c->width);
}

static size_t fixed(const struct top_layout *l)
{
    return (size_t)l->live + STATE + 1 + l->name;
}

/* With the columns up to that rank, without curves. */
static size_t total(const struct top_layout *l, int rank)
{
    size_t n = fixed(l);
    for (size_t k = 0; k < N_COLUMNS; k++)
        n += columns[k].rank <= rank ? width_of(&columns[k], l) + 1 : 0;
    return n;
}

void top_layout_init(struct top_layout *l, size_t room, bool live, bool blocks)
{
    *l = (struct top_layout){.room = room, .name = NAME, .rank = MAX_RANK, .live = live, .blocks = blocks, .now_ms = clk_now_ms()};
    if (!room)
        return;
    if (live && room < 120)
        l->name = room < 60 ? NAME_LEAST : NAME_NARROW;
    const size_t kept =
        live && total(l, RANK_CURVES) + METRIC_N_TRENDS * (GOOD_CURVE + 1) <= room ? (size_t)METRIC_N_TRENDS * (GOOD_CURVE + 1) : 0;
    while (l->rank > 1 && total(l, l->rank) + kept > room)
        l->rank--;
    const size_t left = total(l, l->rank) < room ? room - total(l, l->rank) : 0, curve = left / METRIC_N_TRENDS;
    if (live && l->rank >= RANK_CURVES && curve > LEAST_CURVE)
        l->curve = curve - 1 < LARGEST_CURVE ? curve - 1 : LARGEST_CURVE;
}

/* ---- apps ---- */

void top_add_number(struct buf *out, double value, int width, const char *format)
{
    static const char *const units[] = {"", "k", "M", "G", "T"};
    char cell[64] = "-";
    size_t unit = 0;
    if (!isnan(value))
        snprintf(cell, sizeof cell, format, value);
    if ((int)strlen(cell) > width && value > 0)
        do {
            value /= 1000;
            unit++;
            snprintf(cell, sizeof cell, "%.*f%s", value < 100 && unit < 5 ? 1 : 0, value, unit < 5 ? units[unit] : "P");
        } while (value >= 1000 && unit < 5);
    buf_addf(out, "%*s", width, cell);
}

static void add_curve(struct buf *out, const struct trend *c, const struct top_layout *l, size_t width)
{
    double all[TREND_SLOTS], v[TREND_SLOTS];
    if (!c) {
        buf_addf(out, "%*s", (int)width, "");
        return;
    }
    trend_values(c, l->now_ms, all);
    width = width < TREND_SLOTS ? width : TREND_SLOTS;
    plot_resample(all, TREND_SLOTS, v, width);
    plot_row(out, v, width, plot_top(v, width), 1, 0, l->blocks);
}

void top_add_header(struct buf *out, const struct top_layout *l)
{
    const size_t from = out->n;
    buf_addf(out, "%s%-*s %-*.*s", l->live ? " " : "", STATE, "STATE", (int)l->name, (int)l->name, "TENANT/APP");
    for (size_t k = 0; k < N_COLUMNS; k++) {
        if (columns[k].rank > l->rank)
            continue;
        buf_addf(out, " %*s", (int)width_of(&columns[k], l), columns[k].name);
        if (l->curve && columns[k].curve >= 0)
            buf_addf(out, " %*s", (int)l->curve, "");
    }
    if (!l->room || out->n - from + 2 + strlen(decision_name) <= l->room)
        buf_addf(out, "  %s", decision_name);
}

static void add_figure(struct buf *b, const struct top_row *r, const struct column *c, const struct top_layout *l)
{
    const int width = (int)width_of(c, l);
    char text[32] = "-";
    buf_adds(b, " ");
    if (c->format && l->live) {
        top_add_number(b, r->v[c->metric], width, c->format);
        return;
    }
    if (c->format && !isnan(r->v[c->metric]))
        snprintf(text, sizeof text, c->format, r->v[c->metric]);
    else if (!c->format && !isnan(r->v[METRIC_instances]))
        snprintf(text, sizeof text, "%.0f/%.0f", r->v[METRIC_instances], r->v[METRIC_desired]);
    buf_addf(b, "%*s", width, text);
}

/* A name in so many columns; its middle goes where it is too long. */
static void add_name(struct buf *b, const char *name, size_t room, const struct top_layout *l)
{
    AUTO_FREE char *shown = l->room ? table_shorten(name, room) : xstrdup(name);
    const size_t width = table_width(shown);
    buf_addf(b, "%s%*s", shown, (int)(width < room ? room - width : 0), "");
}

static void add_decision(struct buf *b, const struct top_row *r, size_t at, const struct top_layout *l)
{
    AUTO_BUF struct buf decision = {0};
    if (r->decision >= 0)
        buf_addf(&decision, "%lld: ", (long long)r->decision);
    buf_addf(&decision, "%s%s%s%s", r->reason, r->why ? "  [" : "", r->why ? r->why : "", r->why ? "]" : "");
    buf_make_plain(&decision, 0);
    if (l->room && at + 2 + table_width(decision.p) > l->room) {
        buf_addf(b, "\n%*s", DECISION_INDENT, "");
        table_fold(b, decision.p, DECISION_INDENT, DECISION_INDENT, l->room);
    } else {
        buf_addf(b, "  %s", decision.p);
    }
}

/* The last decision is never cut: it follows the figures, or stands on lines of its own where it is too long. */
void top_add_row(struct buf *out, const struct top_board *v, const struct top_row *r, const struct top_layout *l, bool selected)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *name = xasprintf("%s/%s", r->tenant, r->app);
    const struct trend *curves = l->curve ? top_curves(v, r->tenant, r->app) : NULL;
    buf_addf(&b, "%s%-*s ", !l->live ? "" : selected ? ">" : " ", STATE, r->state);
    add_name(&b, name, l->name, l);
    for (size_t k = 0; k < N_COLUMNS; k++) {
        if (columns[k].rank > l->rank)
            continue;
        add_figure(&b, r, &columns[k], l);
        if (l->curve && columns[k].curve >= 0) {
            buf_adds(&b, " ");
            add_curve(&b, curves ? &curves[columns[k].curve] : NULL, l, l->curve);
        }
    }
    buf_make_plain(&b, 0);
    add_decision(&b, r, table_width(b.p), l);
    buf_add(out, b.p, b.n);
}

/* ---- below ---- */

enum { CURVES_INDENT = 8 };

/* The last minutes of a tenant's files, on a line of their own. */
static void add_file_curves(struct buf *b, const struct top_board *v, const char *tenant, const struct top_layout *l)
{
    static const char *const names[] = {"arrivals ", "  settled ", "  unfinished ", "  running "};
    const struct trend *curves = top_curves(v, tenant, "");
    size_t labels = CURVES_INDENT;
    for (int i = 0; i < METRIC_N_TRENDS; i++)
        labels += strlen(names[i]);
    const size_t width = l->room > labels ? (l->room - labels) / METRIC_N_TRENDS : 0;
    if (!l->live || !curves || width < LEAST_CURVE)
        return;
    buf_addf(b, "\n%*s", CURVES_INDENT, "");
    for (int i = 0; i < METRIC_N_TRENDS; i++) {
        buf_adds(b, names[i]);
        add_curve(b, &curves[i], l, width < LARGEST_CURVE ? width : LARGEST_CURVE);
    }
}

struct section_row { /* what a line is made of */
    const struct top_board *v;
    const struct top_layout *l;
    struct buf *b, *more; /* more: lines that follow, as they are */
};

/* The next tenant that has files; false: none. */
static bool next_batch(bson_iter_t *it, const struct section_row *to)
{
    bson_t t;
    while (json_next_doc(it, &t)) {
        const char *why = json_get_str(&t, "waits_for", NULL), *tenant = json_get_str(&t, "tenant_id", "");
        if (!json_get_i64(&t, "unfinished", 0) || (to->v->issues && !why))
            continue;
        add_name(to->b, tenant, NAME, to->l);
        buf_addf(to->b, " %8lld %8lld %8lld %10lld  %s", (long long)json_get_i64(&t, "queued", 0),
                 (long long)json_get_i64(&t, "held", 0), (long long)json_get_i64(&t, "running", 0),
                 (long long)json_get_i64(&t, "unfinished", 0), why ? why : "");
        add_file_curves(to->more, to->v, tenant, to->l);
        return true;
    }
    return false;
}

/* The next app whose runs report. */
static bool next_batch_app(bson_iter_t *it, const struct section_row *to)
{
    static const struct {
        const char *key, *format;
        int width;
    } figures[] = {{"acked_per_s", "%.1f", 9}, {"avg_ms", "%.2f", 8}, {"p99_ms", "%.2f", 8}, {"errors", "%.0f", 4}};
    bson_t a;
    if (to->v->issues || !json_next_doc(it, &a))
        return false;
    AUTO_FREE char *name = xasprintf("%s/%s", json_get_str(&a, "tenant_id", ""), json_get_str(&a, "app", ""));
    add_name(to->b, name, NAME, to->l);
    buf_addf(to->b, " %8lld", (long long)json_get_i64(&a, "reporting", 0));
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        char cell[32] = "-";
        const double value = json_get_f64(&a, figures[i].key, NAN);
        if (!isnan(value))
            snprintf(cell, sizeof cell, figures[i].format, value);
        buf_addf(to->b, " %*s", figures[i].width, cell);
    }
    buf_addf(to->b, "  %s", json_get_str(&a, "error", ""));
    return true;
}

/* Reports that were refused, a line a tenant. */
static bool next_refused(bson_iter_t *it, const struct section_row *to)
{
    struct buf *b = to->b; /* every refusal is an issue */
    bson_t t;
    bson_iter_t field;
    if (!json_next_doc(it, &t) || !bson_iter_init(&field, &t))
        return false;
    const char *tenant = json_get_str(&t, "tenant_id", "");
    buf_addf(b, "reports refused of %s:", *tenant ? tenant : "(unknown)");
    while (bson_iter_next(&field))
        if (strcmp(bson_iter_key(&field), "taken") != 0 && BSON_ITER_HOLDS_INT(&field) && bson_iter_as_int64(&field))
            buf_addf(b, " %s %lld", bson_iter_key(&field), (long long)bson_iter_as_int64(&field));
    buf_addf(b, "; the last: %s", json_get_str(&t, "last", ""));
    return true;
}

/* The blocks below the stream apps: tenants whose files wait, batch apps that report, refused reports. */
static const struct section {
    const char *key, *header; /* heading of the block; NULL: none */
    bool (*next)(bson_iter_t *it, const struct section_row *to);
} sections[] = {
    {"batch", "FILES OF TENANT            QUEUED     HELD  RUNNING UNFINISHED  WAITS FOR", next_batch},
    {"batch_apps", "BATCH APP               REPORTING    DONE/S   AVG ms   P99 ms  ERR  LAST ERROR", next_batch_app},
    {"refused", NULL, next_refused},
};

bool top_is_header(const char *line)
{
    for (size_t k = 0; k < sizeof sections / sizeof *sections; k++)
        if (sections[k].header && !strcmp(line, sections[k].header))
            return true;
    return false;
}

static size_t add_section(struct buf *out, const struct top_board *v, const struct section *s, const struct top_layout *l)
{
    bson_iter_t it;
    size_t lines = 0;
    if (!json_get_iter(v->doc, s->key, &it))
        return 0;
    for (;; lines++) {
        AUTO_BUF struct buf b = {0}, more = {0};
        if (!s->next(&it, &(struct section_row){v, l, &b, &more}))
            return lines;
        if (lines == 0 && s->header) {
            buf_addf(out, "%s\n", s->header);
            lines++;
        }
        buf_make_plain(&b, 0);
        table_fold(out, b.p, 0, DECISION_INDENT, l->room);
        buf_add(out, more.p, more.n);
        buf_adds(out, "\n");
    }
}

bool top_add_below(struct buf *out, const struct top_board *v, const struct top_layout *l)
{
    size_t lines = 0;
    for (size_t k = 0; v->doc && k < sizeof sections / sizeof *sections; k++)
        lines += add_section(out, v, &sections[k], l);
    return lines > 0;
}
