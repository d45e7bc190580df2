#include "figures_parts.h"

#include "base/clk.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct figures *figures_new(void)
{
    struct figures *f = xcalloc(1, sizeof *f);
    f->max_name = SIZE_MAX;
    return f;
}

void figures_free(struct figures *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->n_columns; i++) {
        free(f->columns[i]->name);
        free(f->columns[i]);
    }
    free(f->columns);
    free(f);
}

void figures_column(struct figures *f, size_t i, const char *name)
{
    if (i != f->n_columns || i >= FIGURES_MAX_COLUMNS)
        return;
    f->columns = xrealloc(f->columns, (i + 1) * sizeof(struct column *));
    f->columns[i] = xcalloc(1, sizeof(struct column));
    f->n_columns++;
    f->columns[i]->name = xstrdup(name);
    f->columns[i]->first = VALUE_null;
    f->columns[i]->bits = FIGURES_BITS;
}

void figures_limit_names(struct figures *f, size_t max)
{
    f->max_name = max;
}

void figures_place(struct figures *f, int64_t place)
{
    f->place = place;
}

size_t figures_n_columns(const struct figures *f)
{
    return f->n_columns;
}

size_t figures_find(struct figures *f, const char *name)
{
    size_t i = f->last + 1; /* rows are alike, so mostly it is the column after the last one */
    if (i >= f->n_columns || strcmp(f->columns[i]->name, name) != 0)
        for (i = 0; i < f->n_columns && strcmp(f->columns[i]->name, name) != 0;)
            i++;
    if (i == f->n_columns && strlen(name) <= f->max_name)
        figures_column(f, i, name);
    if (i == f->n_columns)
        return FIGURES_MAX_COLUMNS;
    f->last = i;
    return i;
}

static void count_distinct(struct column *c, uint64_t h)
{
    unsigned char rank = (unsigned char)(__builtin_clzll(h << c->bits | 1ull << (c->bits - 1)) + 1);
    unsigned char *r = &c->registers[h >> (64 - c->bits)];
    if (rank > *r)
        *r = rank;
}

static double distinct(const struct column *c)
{
    size_t having[64] = {0}; /* registers of each rank */
    double sum = 0, m = (double)((size_t)1 << c->bits);
    for (size_t i = 0; i < (size_t)1 << c->bits; i++)
        having[c->registers[i]]++;
    for (int rank = 0; rank < 64; rank++)
        sum += (double)having[rank] * ldexp(1, -rank);
    double e = 0.7213 / (1 + 1.079 / m) * m * m / sum;
    return e <= 2.5 * m && having[0] ? m * log(m / (double)having[0]) : e;
}

int figures_compare(const char *a, size_t n, const char *b, size_t m)
{
    int c = memcmp(a, b, n < m ? n : m);
    return c ? c : n < m ? -1 : n > m;
}

static void keep(char *to, size_t *ret_n, const char *p, size_t n)
{
    memcpy(to, p, n);
    *ret_n = n;
}

static void add_text(struct column *c, const char *p, size_t n)
{
    bool first = c->counts[VALUE_string] == 1;
    n = n < TEXT_KEPT ? n : TEXT_KEPT;
    if (first || figures_compare(p, n, c->text_min, c->n_text_min) < 0)
        keep(c->text_min, &c->n_text_min, p, n);
    if (first || figures_compare(p, n, c->text_max, c->n_text_max) > 0)
        keep(c->text_max, &c->n_text_max, p, n);
}

/* Numbers are one kind, whatever their width; dates are one. */
enum value_type figures_kind(enum value_type t)
{
    return t == VALUE_int || t == VALUE_long || t == VALUE_decimal ? VALUE_double : t == VALUE_date ? VALUE_datetime : t;
}

void figures_add(struct figures *f, size_t i, const struct value *v, int64_t line)
{
    if (i >= f->n_columns)
        return;
    struct column *c = f->columns[i];
    double d;
    c->counts[v->type]++;
    if (v->type == VALUE_null)
        return;
    if (c->first == VALUE_null)
        c->first = v->type;
    else if (c->first != v->type && !c->changed_at_line && figures_kind(c->first) != figures_kind(v->type))
        c->changed_at_line = f->place ? f->place : line;
    switch (v->type) {
    case VALUE_int:
    case VALUE_long:
        if (c->counts[VALUE_int] + c->counts[VALUE_long] == 1)
            c->int_min = c->int_max = v->i;
        c->int_min = v->i < c->int_min ? v->i : c->int_min;
        c->int_max = v->i > c->int_max ? v->i : c->int_max;
        bins_add(&c->bins, (double)v->i);
        break;
    case VALUE_double:
    case VALUE_decimal:
        if (!value_number(v, &d))
            break;
        if (c->counts[VALUE_double] + c->counts[VALUE_decimal] == 1)
            c->min = c->max = d;
        c->min = d < c->min ? d : c->min;
        c->max = d > c->max ? d : c->max;
        bins_add(&c->bins, d);
        break;
    case VALUE_date:
    case VALUE_datetime:
        if (c->counts[VALUE_date] + c->counts[VALUE_datetime] == 1)
            c->ms_min = c->ms_max = v->i;
        c->ms_min = v->i < c->ms_min ? v->i : c->ms_min;
        c->ms_max = v->i > c->ms_max ? v->i : c->ms_max;
        bins_add(&c->bins, (double)v->i);
        break;
    case VALUE_string:
        add_text(c, v->p, v->n);
        break;
    default:
        break;
    }
    count_distinct(c, v->p ? XXH3_64bits(v->p, v->n) : XXH3_64bits(&v->i, sizeof v->i));
}

void figures_count_rule(struct rule_counts *c, const char *rule, int64_t n)
{
    size_t k = 0;
    while (k < c->n && strcmp(c->rules[k].rule, rule))
        k++;
    if (k == MAX_RULES)
        return;
    if (k == c->n)
        snprintf(c->rules[c->n++].rule, sizeof c->rules->rule, "%s", rule);
    c->rules[k].n += n;
}

void figures_reject(struct figures *f, int i, const char *rule)
{
    if (i >= 0 && (size_t)i < f->n_columns)
        f->columns[i]->rejects++;
    figures_count_rule(&f->rejects, rule, 1);
}

void figures_repair(struct figures *f, const char *rule)
{
    figures_count_rule(&f->repaired, rule, 1);
}

static int64_t n_values(const struct column *c)
{
    int64_t n = 0;
    for (int t = 0; t < VALUE_N_TYPES; t++)
        n += t == VALUE_null ? 0 : c->counts[t];
    return n;
}

/* After figures were added up, the place of the first change may be unknown. */
static bool is_mixed(const struct column *c)
{
    bool others = false;
    for (int t = 0; t < VALUE_N_TYPES; t++)
        others |= t != VALUE_null && c->counts[t] && figures_kind((enum value_type)t) != figures_kind(c->first);
    return others;
}

static const char *type_of(const struct column *c)
{
    if (!n_values(c))
        return "null";
    if (is_mixed(c))
        return "mixed";
    if (figures_kind(c->first) != VALUE_double)
        return value_type_name(figures_kind(c->first) == VALUE_datetime && c->counts[VALUE_datetime] ? VALUE_datetime : c->first);
    return c->counts[VALUE_decimal] ? "decimal" : c->counts[VALUE_double] ? "double" : c->counts[VALUE_long] ? "long" : "int";
}

static void add_range(const struct column *c, struct buf *out)
{
    bool ints = c->counts[VALUE_int] || c->counts[VALUE_long], floats = c->counts[VALUE_double] || c->counts[VALUE_decimal];
    if (is_mixed(c) || (!ints && !floats && !c->counts[VALUE_string] && figures_kind(c->first) != VALUE_datetime)) {
        json_null(out, "min");
        json_null(out, "max");
    } else if (floats) {
        json_f64(out, "min", ints && (double)c->int_min < c->min ? (double)c->int_min : c->min);
        json_f64(out, "max", ints && (double)c->int_max > c->max ? (double)c->int_max : c->max);
    } else if (ints) {
        json_i64(out, "min", c->int_min);
        json_i64(out, "max", c->int_max);
    } else if (c->counts[VALUE_string]) {
        json_strn(out, "min", c->text_min, c->n_text_min);
        json_strn(out, "max", c->text_max, c->n_text_max);
    } else {
        char text[CLK_RFC3339_SIZE];
        json_str(out, "min", clk_rfc3339(c->ms_min, text));
        json_str(out, "max", clk_rfc3339(c->ms_max, text));
    }
}

static void add_edge(struct buf *out, const char *key, bool is_date, double edge)
{
    static const double first_ms = -62135596800000, last_ms = 253402300799999; /* of the years that dates have */
    char text[CLK_RFC3339_SIZE];
    if (is_date)
        json_str(out, key, clk_rfc3339((int64_t)(edge < first_ms ? first_ms : edge > last_ms ? last_ms : edge), text));
    else
        json_f64(out, key, edge);
}

static void add_histogram(const struct column *c, struct buf *out)
{
    struct bins b = c->bins;
    bool is_date = figures_kind(c->first) == VALUE_datetime;
    int64_t n = 0;
    int first, last;
    for (int k = 0; k < BINS; k++)
        n += b.n[k];
    if (is_mixed(c) || n != n_values(c)) /* after figures were added up that had no room for it: not of all values */
        return;
    if (c->counts[VALUE_int] + c->counts[VALUE_long] == n_values(c))
        bins_widen(&b, 0);
    if (!bins_range(&b, &first, &last) || first == last)
        return;
    json_begin(out, "histogram", '{');
    add_edge(out, "from", is_date, bins_edge(&b, first));
    add_edge(out, "to", is_date, bins_edge(&b, last + 1));
    json_begin(out, "counts", '[');
    for (int k = first; k <= last; k++)
        json_i64(out, NULL, b.n[k]);
    json_end(out, ']');
    json_end(out, '}');
}

static void add_column(const struct figures *f, const struct column *c, int64_t now_ms, struct buf *out)
{
    json_begin(out, c->name, '{');
    json_str(out, "type", type_of(c));
    json_i64(out, "values", n_values(c));
    json_i64(out, "nulls", c->counts[VALUE_null]);
    json_i64(out, "rejects", c->rejects);
    json_i64(out, "distinct", (int64_t)(distinct(c) + 0.5));
    add_range(c, out);
    add_histogram(c, out);
    if (is_mixed(c)) {
        json_begin(out, "types", '{');
        for (int t = 0; t < VALUE_N_TYPES; t++)
            if (c->counts[t] && t != VALUE_null)
                json_i64(out, value_type_name((enum value_type)t), c->counts[t]);
        json_end(out, '}');
        if (c->changed_at_line)
            json_i64(out, f->place ? "changed_at_sequence" : "changed_at_line", c->changed_at_line);
    }
    if (c->counts[VALUE_date] || c->counts[VALUE_datetime])
        json_i64(out, "newest_age_s", (now_ms - c->ms_max) / 1000);
    json_end(out, '}');
}

static void add_rules(const struct rule_counts *c, const char *key, struct buf *out)
{
    json_begin(out, key, '{');
    for (size_t i = 0; i < c->n; i++)
        json_i64(out, c->rules[i].rule, c->rules[i].n);
    json_end(out, '}');
}

void figures_json(const struct figures *f, int64_t now_ms, struct buf *out)
{
    add_rules(&f->rejects, "rejects_by_rule", out);
    if (f->repaired.n)
        add_rules(&f->repaired, "repaired_by_rule", out);
    json_begin(out, "by_column", '{');
    for (size_t i = 0; i < f->n_columns; i++)
        add_column(f, f->columns[i], now_ms, out);
    json_end(out, '}');
}

void figures_rules(const struct figures *f, struct buf *out)
{
    for (size_t i = 0; i < f->rejects.n; i++)
        buf_addf(out, "%s%s %lld", i ? ", " : "", f->rejects.rules[i].rule, (long long)f->rejects.rules[i].n);
}

const char *figures_type(const struct figures *f, size_t i)
{
    return type_of(f->columns[i]);
}

int64_t figures_nulls(const struct figures *f, size_t i)
{
    return f->columns[i]->counts[VALUE_null];
}

const char *figures_name(const struct figures *f, size_t i)
{
    return f->columns[i]->name;
}

int64_t figures_changed_at(const struct figures *f, size_t i)
{
    return f->columns[i]->changed_at_line;
}
