/* A row is made in three passes: every cell becomes a value and is checked by its rule; then the values are written as BSON
 * in the order of `ops`; then the figures count them. Nothing is written or counted of a row that is refused. Room for the
 * whole row is made at once, and keys are copied with their NULs from ready-made bytes, so that writing a cell is a few
 * moves. */
#include "base/mem.h"
#include "plan_parts.h"
#include "sniff.h"

#include <endian.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REGEX_STEPS = 200000, DAY_MS = 86400000, SHOWN = 60 };
static const char extra_key[] = "_extra";

/* --- making it --- */

struct target {
    const char *path; /* what is left of it at this depth */
    uint32_t column;
    bool done;
};

static void add_op(struct plan *p, enum op_kind kind, uint32_t column, const char *key, size_t n)
{
    p->ops = xrealloc(p->ops, (p->n_ops + 1) * sizeof *p->ops);
    struct op *o = &p->ops[p->n_ops];
    *o = (struct op){.kind = kind, .column = column, .n_key = (uint32_t)n + 1};
    if (n + 1 <= KEY_ROOM)
        memcpy(o->key, key, n);
    else
        o->long_key = xstrndup(key, n);
    p->n_ops++;
    p->room += n + 2 + 24 + KEY_ROOM;
}

/* Emits the targets whose done flag is off, depth first, in the order of first appearance. */
static void add_ops(struct plan *p, struct target *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (t[i].done)
            continue;
        const char *dot = strchr(t[i].path, '.');
        if (!dot) {
            add_op(p, OP_VALUE, t[i].column, t[i].path, strlen(t[i].path));
            t[i].done = true;
            continue;
        }
        size_t len = (size_t)(dot - t[i].path), m = 0;
        AUTO_FREE struct target *inner = xcalloc(n, sizeof *inner);
        for (size_t k = i; k < n; k++)
            if (!t[k].done && !strncmp(t[k].path, t[i].path, len + 1))
                inner[m++] = (struct target){t[k].path + len + 1, t[k].column, false};
        add_op(p, OP_OPEN, 0, t[i].path, len);
        const char *prefix = t[i].path;
        for (size_t k = i; k < n; k++)
            if (!t[k].done && !strncmp(t[k].path, prefix, len + 1))
                t[k].done = true;
        add_ops(p, inner, m);
        add_op(p, OP_CLOSE, 0, "", 0);
    }
}

static void init_column(struct plan *p, struct column *c, const struct rule *u, const char *name)
{
    *c = (struct column){.rule = u, .name = name, .type = u ? u->type : VALUE_auto, .key = spec_is_key(p->spec, name)};
    if (p->spec->all_string && c->type == VALUE_auto)
        c->type = VALUE_string;
    c->checked =
        c->key || (u && (u->required || u->regex || u->one_of.n || !isnan(u->min) || !isnan(u->max) || u->max_age_days >= 0));
}

static void init_plan(struct plan *p, const struct spec *s)
{
    p->spec = s;
    p->empty_is_null = !s->null_given && !s->all_string;
    for (size_t i = 0; i < s->null.n; i++) {
        size_t n = strlen(s->null.v[i]);
        p->empty_is_null |= n == 0;
        p->null_lengths |= 1ull << (n < 63 ? n : 63);
    }
    p->match = pcre2_match_data_create(1, NULL);
    p->match_limits = pcre2_match_context_create(NULL);
    if (!p->match || !p->match_limits)
        mem_exhausted();
    pcre2_set_match_limit(p->match_limits, REGEX_STEPS);
}

/* The value of a constant, once and for all. */
static void constant(struct plan *p, size_t i, const struct rule *u)
{
    struct value *v = &p->values[i];
    size_t n = strlen(u->value);
    if (u->type == VALUE_auto || !value_parse(u->type, u->value, n, v))
        *v = (struct value){.type = VALUE_string, .p = u->value, .n = n};
    p->room += n;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct target *)a)->path, ((const struct target *)b)->path);
}

/* Fields of columns without a rule may collide with those of others. After sorting, a field that lies within another follows it,
 * with only fields between them whose next byte is lower than '.'; those are skipped. */
static int check_paths(const struct target *t, size_t n, struct err *e)
{
    AUTO_FREE struct target *s = xcalloc(n + 1, sizeof *s);
    memcpy(s, t, n * sizeof *s);
    qsort(s, n, sizeof *s, by_path);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(s[i].path);
        if (i + 1 < n && !strcmp(s[i].path, s[i + 1].path))
            return err_set(e, ERR_CONFIG, "two columns of the file would be stored as the field '%.100s'", s[i].path);
        for (size_t k = i + 1; k < n && !strncmp(s[k].path, s[i].path, len); k++)
            if (s[k].path[len] == '.')
                return err_set(e, ERR_CONFIG, "the fields '%.100s' and '%.100s' would lie within one another", s[i].path,
                               s[k].path);
    }
    return 0;
}

static bool has_column(char *const *columns, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(columns[i], name))
            return true;
    return false;
}

/* Checks the columns of the spec against those of the file. */
static int check_header(const struct spec *s, char *const *columns, size_t n, struct err *e)
{
    size_t declared = 0, found = 0;
    AUTO_BUF struct buf names = {0};
    for (size_t i = 0; i < n && names.n < 300; i++)
        buf_addf(&names, "%s'%.60s'", i ? ", " : "", columns[i]);
    for (size_t i = 0; i < s->n_rules; i++) {
        const struct rule *u = &s->rules[i];
        bool has = has_column(columns, n, u->name);
        if (u->value)
            continue;
        declared++;
        found += has;
        if (u->required && !has)
            return err_set(e, ERR_CONFIG, "the header lacks the required column '%.100s'; it has %s", u->name,
                           names.p ? names.p : "none");
    }
    for (size_t i = 0; i < s->key.n; i++) {
        const struct rule *u = spec_rule(s, s->key.v[i], strlen(s->key.v[i]));
        if (!has_column(columns, n, s->key.v[i]) && !(u && u->value))
            return err_set(e, ERR_CONFIG, "the header lacks the key column '%.100s'; it has %s", s->key.v[i],
                           names.p ? names.p : "none");
    }
    if (declared && !found)
        return err_set(e, ERR_CONFIG, "the header names none of the configured columns; it has %s", names.p ? names.p : "none");
    return 0;
}

/* The fields that columns are stored as; NULL where a constant replaces one. */
struct names {
    char **v;
    size_t n;
};

static void names_fini(struct names *l)
{
    for (size_t i = 0; l->v && i < l->n; i++)
        free(l->v[i]);
    free(l->v);
}

int plan_new_csv(const struct spec *s, const struct dialect *d, char *const *columns, size_t n, struct plan **ret, struct err *e)
{
    int r = check_header(s, columns, n, e);
    if (r < 0)
        return r;
    AUTO_PLAN struct plan *p = xcalloc(1, sizeof *p);
    size_t n_targets = 0;
    AUTO_FREE struct target *t = xcalloc(n + s->n_rules + 1, sizeof *t);
    __attribute__((cleanup(names_fini))) struct names names = {.n = n};
    char **fields = names.v = xcalloc(n + 1, sizeof *fields);
    init_plan(p, s);
    p->n_cells = n;
    p->columns = xcalloc(n + s->n_rules + 1, sizeof *p->columns);
    p->values = xcalloc(n + s->n_rules + 1, sizeof *p->values);
    for (size_t i = 0; i < n; i++) {
        const struct rule *u = spec_rule(s, columns[i], strlen(columns[i]));
        init_column(p, &p->columns[i], u, columns[i]);
        p->columns[i].usual_nulls = !s->null_given && p->columns[i].type == VALUE_auto && dialect_numbers(d, i);
        if (u && u->value)
            continue; /* the constant replaces the column */
        fields[i] = u ? xstrdup(u->target) : spec_field_name(columns[i], strlen(columns[i]));
        if (!strcmp(fields[i], "_id"))
            r = err_set(e, ERR_CONFIG,
                        "the header names a column '_id', which the platform sets; give it another name with "
                        "columns = ({ name = \"_id\"; as = \"...\"; })");
        t[n_targets++] = (struct target){fields[i], (uint32_t)i, false};
    }
    p->n_columns = n;
    for (size_t i = 0; i < s->n_rules; i++)
        if (s->rules[i].value) {
            init_column(p, &p->columns[p->n_columns], &s->rules[i], s->rules[i].name);
            constant(p, p->n_columns, &s->rules[i]);
            t[n_targets++] = (struct target){s->rules[i].target, (uint32_t)p->n_columns++, false};
        }
    if (r == 0)
        r = check_paths(t, n_targets, e);
    if (r == 0)
        add_ops(p, t, n_targets);
    if (r == 0)
        *ret = TAKE(p);
    return r;
}

struct plan *plan_new_json(const struct spec *s)
{
    AUTO_PLAN struct plan *p = xcalloc(1, sizeof *p);
    size_t n_targets = 0;
    AUTO_FREE struct target *t = xcalloc(s->n_rules + 1, sizeof *t);
    init_plan(p, s);
    p->columns = xcalloc(s->n_rules + 1, sizeof *p->columns);
    p->values = xcalloc(s->n_rules + 1, sizeof *p->values);
    for (size_t i = 0; i < s->n_rules; i++) {
        init_column(p, &p->columns[i], &s->rules[i], s->rules[i].name);
        if (s->rules[i].value)
            constant(p, i, &s->rules[i]);
        /* fields that stay at the top keep their place in the document; these are put behind it */
        const char *name = s->rules[i].name, *target = s->rules[i].target;
        bool moves = strcmp(target, name) != 0;
        if (s->rules[i].value || (moves && (strchr(target, '.') || strchr(name, '.'))))
            t[n_targets++] = (struct target){s->rules[i].target, (uint32_t)i, false};
        p->room += strlen(s->rules[i].target) + 1;
        p->nested |= s->rules[i].value || moves;
        p->n_columns++;
    }
    add_ops(p, t, n_targets);
    return TAKE(p);
}

void plan_free(struct plan *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n_ops; i++)
        free(p->ops[i].long_key);
    free(p->ops);
    free(p->columns);
    free(p->values);
    free(p->slots);
    buf_fini(&p->json);
    pcre2_match_data_free(p->match);
    pcre2_match_context_free(p->match_limits);
    free(p);
}

void plan_set_figures(struct plan *p, struct figures *f)
{
    p->figures = f;
    p->slots = xrealloc(p->slots, (p->n_cells + 1) * sizeof *p->slots);
    for (size_t i = 0; i < p->n_cells; i++)
        p->slots[i] = figures_find(f, p->columns[i].name);
}

int plan_slot(const struct plan *p, int column)
{
    if (!p || !p->figures || column < 1 || (size_t)column > p->n_columns)
        return -1;
    size_t i = figures_find(p->figures, p->columns[column - 1].name);
    return i < FIGURES_MAX_COLUMNS ? (int)i : -1;
}

/* --- checking --- */

int plan_refuse(struct plan *p, struct record *rec, const char *rule, int column, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->why, sizeof p->why, fmt, ap);
    va_end(ap);
    rec->reject = p->why;
    rec->repaired = NULL;
    rec->rule = rule;
    rec->column = column;
    return ERR_FORMAT;
}

static int shown(size_t n)
{
    return n > SHOWN ? SHOWN : (int)n;
}

/* The text that a rule is applied to. */
static const char *text_of(const struct value *v, char text[BSON_DECIMAL128_STRING + 8], size_t *ret_n)
{
    if (v->p) {
        *ret_n = v->n;
        return v->p;
    }
    switch (v->type) {
    case VALUE_int:
    case VALUE_long:
        snprintf(text, BSON_DECIMAL128_STRING, "%lld", (long long)v->i);
        break;
    case VALUE_double:
        snprintf(text, BSON_DECIMAL128_STRING, "%.17g", v->f);
        break;
    case VALUE_decimal:
        bson_decimal128_to_string(&v->decimal, text);
        break;
    case VALUE_bool:
        strcpy(text, v->b ? "true" : "false");
        break;
    default:
        text[0] = 0;
        break;
    }
    *ret_n = strlen(text);
    return text;
}

static int check_text(struct plan *p, const struct column *c, const struct value *v, struct record *rec, int column)
{
    const struct rule *u = c->rule;
    char room[BSON_DECIMAL128_STRING + 8];
    size_t n;
    const char *text = text_of(v, room, &n);
    if (u->one_of.n) {
        bool found = false;
        for (size_t i = 0; i < u->one_of.n && !found; i++)
            found = strlen(u->one_of.v[i]) == n && !memcmp(u->one_of.v[i], text, n);
        if (!found)
            return plan_refuse(p, rec, "enum", column, "column '%s': \"%.*s\" is none of the allowed values", c->name, shown(n),
                               text);
    }
    if (u->code) {
        int m = pcre2_match(u->code, (PCRE2_SPTR)text, n, 0, PCRE2_NO_UTF_CHECK, p->match, p->match_limits);
        if (m == PCRE2_ERROR_NOMATCH)
            return plan_refuse(p, rec, "regex", column, "column '%s': \"%.*s\" does not match %s", c->name, shown(n), text,
                               u->regex);
        if (m < 0)
            return plan_refuse(p, rec, "regex", column, "column '%s': matching %s takes too many steps on this value", c->name,
                               u->regex);
    }
    return 0;
}

int plan_check_value(struct plan *p, const struct column *c, const struct value *v, struct record *rec, int column)
{
    const struct rule *u = c->rule;
    double d;
    if (v->type == VALUE_null) {
        if (c->key || (u && u->required))
            return plan_refuse(p, rec, "required", column, "column '%s' is %s and empty here", c->name,
                               c->key ? "part of the key" : "required");
        return 0;
    }
    if (!u)
        return 0;
    if (!isnan(u->min) || !isnan(u->max)) {
        if (!value_number(v, &d)) {
            rec->type = "number";
            return plan_refuse(p, rec, "type", column, "column '%s': expected a number, got \"%.*s\"", c->name, shown(v->n),
                               v->p ? v->p : "");
        }
        if (d < u->min)
            return plan_refuse(p, rec, "min", column, "column '%s': %.15g is below min %.15g", c->name, d, u->min);
        if (d > u->max)
            return plan_refuse(p, rec, "max", column, "column '%s': %.15g is above max %.15g", c->name, d, u->max);
    }
    if (u->max_age_days >= 0 && (v->type == VALUE_date || v->type == VALUE_datetime) &&
        v->i < p->spec->now_ms - u->max_age_days * DAY_MS)
        return plan_refuse(p, rec, "max_age_days", column, "column '%s': \"%.*s\" is more than %lld days old", c->name, shown(v->n),
                           v->p ? v->p : "", (long long)u->max_age_days);
    return u->one_of.n || u->code ? check_text(p, c, v, rec, column) : 0;
}

int plan_wrong_type(struct plan *p, const struct column *c, const char *text, size_t n, struct record *rec, int column)
{
    rec->type = value_type_name(c->type);
    return plan_refuse(p, rec, "type", column, "column '%s': expected %s, got \"%.*s\"", c->name, rec->type, shown(n), text);
}
/* --- writing --- */

static inline char *put32(char *o, uint32_t v)
{
    v = htole32(v);
    memcpy(o, &v, 4);
    return o + 4;
}

static inline char *put64(char *o, uint64_t v)
{
    v = htole64(v);
    memcpy(o, &v, 8);
    return o + 8;
}

/* BSON element types: bsonspec.org, version 1.1. */
static inline char *put_key(char *o, char type, const struct op *op)
{
    *o++ = type;
    if (op->long_key)
        memcpy(o, op->long_key, op->n_key);
    else
        memcpy(o, op->key, KEY_ROOM); /* a copy of fixed size compiles to a few moves; there is room for it */
    return o + op->n_key;
}

char *plan_put_value(struct plan *p, char *o, const struct op *op, const struct value *v)
{
    uint64_t bits;
    uint32_t len;
    switch (v->type) {
    case VALUE_int:
        return put32(put_key(o, 0x10, op), (uint32_t)(int32_t)v->i);
    case VALUE_long:
        return put64(put_key(o, 0x12, op), (uint64_t)v->i);
    case VALUE_double:
        memcpy(&bits, &v->f, 8);
        return put64(put_key(o, 0x01, op), bits);
    case VALUE_bool:
        o = put_key(o, 0x08, op);
        *o = (char)v->b;
        return o + 1;
    case VALUE_date:
    case VALUE_datetime:
        return put64(put_key(o, 0x09, op), (uint64_t)v->i);
    case VALUE_decimal:
        return put64(put64(put_key(o, 0x13, op), v->decimal.low), v->decimal.high);
    case VALUE_json: /* length, type, "v", value, NUL */
        memcpy(&len, p->json.p + v->i, 4);
        len = le32toh(len);
        o = put_key(o, p->json.p[v->i + 4], op);
        memcpy(o, p->json.p + v->i + 7, len - 8);
        return o + len - 8;
    case VALUE_null:
        return put_key(o, 0x0a, op);
    default:
        o = put32(put_key(o, 0x02, op), (uint32_t)v->n + 1);
        memcpy(o, v->p, v->n);
        o[v->n] = 0;
        return o + v->n + 1;
    }
}

char *plan_put_ops(struct plan *p, char *o)
{
    char *open[32];
    int depth = 0;
    for (size_t i = 0; i < p->n_ops; i++) {
        const struct op *op = &p->ops[i];
        if (op->kind == OP_VALUE) {
            if (p->values[op->column].type != VALUE_N_TYPES) /* a member that a JSON record lacks */
                o = plan_put_value(p, o, op, &p->values[op->column]);
        } else if (op->kind == OP_OPEN) {
            o = put_key(o, 0x03, op);
            open[depth++] = o;
            o += 4;
        } else {
            *o++ = 0;
            depth--;
            put32(open[depth], (uint32_t)(o - open[depth]));
        }
    }
    return o;
}

static char *put_extra(struct plan *p, char *o, const struct cell *cells, size_t n)
{
    struct op op = {.n_key = sizeof extra_key};
    struct value v;
    memcpy(op.key, extra_key, sizeof extra_key);
    o = put_key(o, 0x04, &op);
    char *open = o;
    o += 4;
    for (size_t i = 0; i < n; i++) {
        op.n_key = (uint32_t)snprintf(op.key, sizeof op.key, "%zu", i) + 1;
        if (p->spec->all_string || p->spec->ragged != RAGGED_KEEP_EXTRA) /* the latter: a repair, which infers nothing */
            v = (struct value){.type = VALUE_string, .p = cells[i].p, .n = cells[i].n};
        else
            value_infer(cells[i].p, cells[i].n, &v);
        o = plan_put_value(p, o, &op, &v);
    }
    *o++ = 0;
    put32(open, (uint32_t)(o - open));
    return o;
}

/* --- rows --- */

static bool in_nulls(const struct plan *p, const struct cell *c)
{
    if (!(p->null_lengths >> (c->n < 63 ? c->n : 63) & 1))
        return false;
    for (size_t i = 0; i < p->spec->null.n; i++)
        if (strlen(p->spec->null.v[i]) == c->n && !memcmp(p->spec->null.v[i], c->p, c->n))
            return true;
    return false;
}

/* Quoted cells are null only where their column's type has no empty value. */
static inline bool is_null(const struct plan *p, const struct column *c, const struct cell *cell)
{
    if (cell->quoted && (c->type <= VALUE_string || c->type == VALUE_json))
        return false;
    if (!cell->n)
        return p->empty_is_null || (cell->quoted && c->type > VALUE_string);
    if (c->usual_nulls && cell->n <= 4 && (unsigned char)(cell->p[0] - '0') > 9)
        return sniff_usual_null(cell->p, cell->n);
    return p->null_lengths && in_nulls(p, cell);
}

static int convert(struct plan *p, size_t i, const struct cell *cell, struct record *rec)
{
    const struct column *c = &p->columns[i];
    struct value *v = &p->values[i];
    if (is_null(p, c, cell)) {
        v->type = VALUE_null;
    } else if (c->type == VALUE_auto) {
        value_infer(cell->p, cell->n, v);
        if (v->type == VALUE_null)
            v->type = VALUE_string;
    } else if (c->type == VALUE_json ? !plan_json_cell(p, cell, v) : !value_parse(c->type, cell->p, cell->n, v)) {
        return plan_wrong_type(p, c, cell->p, cell->n, rec, (int)i + 1);
    }
    return c->checked ? plan_check_value(p, c, v, rec, (int)i + 1) : 0;
}

/* The row ends before this cell. */
static int no_cell(struct plan *p, size_t i, struct record *rec)
{
    const struct column *c = &p->columns[i];
    p->values[i].type = VALUE_null;
    return c->checked ? plan_check_value(p, c, &p->values[i], rec, (int)i + 1) : 0;
}

static void count(struct plan *p, const struct record *rec)
{
    for (size_t i = 0; i < p->n_cells; i++)
        figures_add(p->figures, p->slots[i], &p->values[i], rec->line);
}

int plan_row(struct plan *p, struct record *rec, const struct cell *cells, size_t n_cells, struct buf *out)
{
    size_t extra = n_cells > p->n_cells ? n_cells - p->n_cells : 0;
    p->json.n = 0;
    for (size_t i = 0; i < p->n_cells; i++) {
        int r = i < n_cells ? convert(p, i, &cells[i], rec) : no_cell(p, i, rec);
        if (r < 0) {
            rec->spot =
                i < n_cells && cells[i].p >= rec->raw && cells[i].p <= rec->raw + rec->n ? (size_t)(cells[i].p - rec->raw) : 0;
            return r;
        }
    }
    buf_reserve(out, p->room + rec->n + p->json.n + extra * (KEY_ROOM + 16) + 64);
    char *o = plan_put_ops(p, out->p + out->n);
    if (extra)
        o = put_extra(p, o, cells + p->n_cells, extra);
    out->n = (size_t)(o - out->p);
    if (p->figures)
        count(p, rec);
    return 0;
}
