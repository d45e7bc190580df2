/* Figures as text that can be read back and added up: of an instance's messages until now, of an app's day. They pass through a
 * file of the tenant's, so what is read back is believed as little as a report: counts are bounded, names and texts short.
 *
 *   "rejects_by_rule":[{"rule","n"}...] and "repaired_by_rule" likewise,
 *   "columns":[{"name","types":{type:n},"rejects","int_min","int_max","min","max","ms_min","ms_max","text_min","text_max",
 *               "changed_at","bins":{"exponent","first","n":[...]},"registers"}...]
 *
 * registers: a character each, '0' + its rank (at most 63, which would need 2^62 values); 1024, 256 or 64 of the 4096. The register
 * of fewer bits is the highest of those that it stands for, counted in its own bits. */
#include "figures_parts.h"

#include "base/json.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

enum { MIN_BITS = 6, KEPT_BITS = 10, STEP_BITS = 2, MAX_NAME = 255, MAX_RANK = 63, FIRST_RANK = '0' };

#define MAX_COUNT (INT64_C(1) << 53)
#define MAX_MS    INT64_C(253402300799999) /* the end of 9999 */

/* --- registers --- */

/* The registers with `bits` (not more than c has), into `to`. */
static void fold(const struct column *c, unsigned char bits, unsigned char *to)
{
    unsigned char less = (unsigned char)(c->bits - bits);
    memset(to, 0, (size_t)1 << bits);
    for (size_t i = 0; i < (size_t)1 << c->bits; i++) {
        size_t rest = i & (((size_t)1 << less) - 1);
        unsigned char rank = c->registers[i], *at = &to[i >> less];
        if (rank && rest)
            rank = (unsigned char)(less - (63 - __builtin_clzll(rest)));
        else if (rank)
            rank = (unsigned char)(rank + less);
        rank = rank < MAX_RANK ? rank : MAX_RANK;
        if (rank > *at)
            *at = rank;
    }
}

static void keep_registers(const struct column *c, unsigned char bits, struct buf *out)
{
    unsigned char r[REGISTERS];
    char text[REGISTERS];
    bits = bits < c->bits ? bits : c->bits;
    size_t n = (size_t)1 << bits;
    fold(c, bits, r);
    for (size_t i = 0; i < n; i++)
        text[i] = (char)(FIRST_RANK + r[i]);
    json_strn(out, "registers", text, n);
}

/* False: the text is not a valid set of registers. */
static bool add_registers(struct column *c, const char *text, size_t n)
{
    struct column other = {.bits = MIN_BITS};
    unsigned char mine[REGISTERS], theirs[REGISTERS];
    while (other.bits < FIGURES_BITS && (size_t)1 << other.bits != n)
        other.bits++;
    if ((size_t)1 << other.bits != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < FIRST_RANK || text[i] > FIRST_RANK + MAX_RANK)
            return false;
        other.registers[i] = (unsigned char)(text[i] - FIRST_RANK);
    }
    unsigned char bits = other.bits < c->bits ? other.bits : c->bits;
    fold(c, bits, mine);
    fold(&other, bits, theirs);
    for (size_t i = 0; i < (size_t)1 << bits; i++)
        c->registers[i] = mine[i] > theirs[i] ? mine[i] : theirs[i];
    c->bits = bits;
    return true;
}

/* --- keeping --- */

static void keep_rules(const struct rule_counts *c, const char *key, struct buf *out)
{
    json_begin(out, key, '[');
    for (size_t i = 0; i < c->n; i++) {
        json_begin(out, NULL, '{');
        json_str(out, "rule", c->rules[i].rule);
        json_i64(out, "n", c->rules[i].n);
        json_end(out, '}');
    }
    json_end(out, ']');
}

static void keep_bins(const struct bins *b, struct buf *out)
{
    int first, last;
    if (!bins_range(b, &first, &last))
        return;
    json_begin(out, "bins", '{');
    json_i64(out, "exponent", b->exponent);
    json_i64(out, "first", b->first + first);
    json_begin(out, "n", '[');
    for (int k = first; k <= last; k++)
        json_i64(out, NULL, b->n[k]);
    json_end(out, ']');
    json_end(out, '}');
}

static void keep_column(const struct column *c, unsigned char bits, bool bins, struct buf *out)
{
    json_begin(out, NULL, '{');
    json_str(out, "name", c->name);
    json_begin(out, "types", '{');
    for (int t = 0; t < VALUE_N_TYPES; t++)
        if (c->counts[t])
            json_i64(out, value_type_name((enum value_type)t), c->counts[t]);
    json_end(out, '}');
    if (c->rejects)
        json_i64(out, "rejects", c->rejects);
    if (c->counts[VALUE_int] || c->counts[VALUE_long]) {
        json_i64(out, "int_min", c->int_min);
        json_i64(out, "int_max", c->int_max);
    }
    if (c->counts[VALUE_double] || c->counts[VALUE_decimal]) {
        json_f64(out, "min", c->min);
        json_f64(out, "max", c->max);
    }
    if (c->counts[VALUE_date] || c->counts[VALUE_datetime]) {
        json_i64(out, "ms_min", c->ms_min);
        json_i64(out, "ms_max", c->ms_max);
    }
    if (c->counts[VALUE_string]) {
        json_strn(out, "text_min", c->text_min, c->n_text_min);
        json_strn(out, "text_max", c->text_max, c->n_text_max);
    }
    if (c->changed_at_line)
        json_i64(out, "changed_at", c->changed_at_line);
    if (bins)
        keep_bins(&c->bins, out);
    keep_registers(c, bits, out);
    json_end(out, '}');
}

/* Returns how many columns were written. */
static size_t keep_columns(const struct figures *f, unsigned char bits, bool bins, size_t max_bytes, struct buf *out)
{
    size_t i = 0, begin = out->n;
    json_begin(out, "columns", '[');
    for (; i < f->n_columns; i++) {
        size_t before = out->n;
        if (strlen(f->columns[i]->name) > MAX_NAME)
            continue;
        keep_column(f->columns[i], bits, bins, out);
        if (out->n - begin > max_bytes) {
            out->n = before;
            break;
        }
    }
    json_end(out, ']');
    return i;
}

void figures_keep(const struct figures *f, size_t max_bytes, struct buf *out)
{
    size_t begin = out->n;
    keep_rules(&f->rejects, "rejects_by_rule", out);
    keep_rules(&f->repaired, "repaired_by_rule", out);
    size_t used = out->n - begin, at = out->n, left = max_bytes > used ? max_bytes - used : 0;
    for (unsigned char bits = KEPT_BITS; bits >= MIN_BITS; bits = (unsigned char)(bits - STEP_BITS)) {
        out->n = at;
        if (keep_columns(f, bits, bits > MIN_BITS, left, out) == f->n_columns)
            return;
    }
}

/* --- adding up --- */

static int64_t count_of(const bson_t *doc, const char *key)
{
    int64_t n = json_get_i64(doc, key, 0);
    return n < 0 ? 0 : n > MAX_COUNT ? MAX_COUNT : n;
}

static void add_count(int64_t *sum, int64_t n)
{
    *sum = *sum + n < MAX_COUNT ? *sum + n : MAX_COUNT;
}

static bool is_rule(const char *rule)
{
    size_t n = strlen(rule);
    return n && n < MAX_RULE && strspn(rule, "abcdefghijklmnopqrstuvwxyz_") == n;
}

static void add_rules(struct rule_counts *c, const bson_t *kept, const char *key)
{
    bson_iter_t it;
    bson_t doc;
    if (!json_get_iter(kept, key, &it))
        return;
    while (json_next_doc(&it, &doc)) {
        const char *rule = json_get_str(&doc, "rule", "");
        if (is_rule(rule))
            figures_count_rule(c, rule, count_of(&doc, "n"));
    }
}

static void add_int_range(const bson_t *doc, const char *min, const char *max, bool first, int64_t *ret_min, int64_t *ret_max)
{
    int64_t a = json_get_i64(doc, min, 0), b = json_get_i64(doc, max, 0);
    *ret_min = first || a < *ret_min ? a : *ret_min;
    *ret_max = first || b > *ret_max ? b : *ret_max;
}

/* Clamps to the years that dates may have. */
static int64_t a_time(int64_t ms)
{
    return ms < -MAX_MS ? -MAX_MS : ms > MAX_MS ? MAX_MS : ms;
}

static void add_text(const bson_t *doc, const char *key, bool first, int sign, char *text, size_t *n)
{
    bson_iter_t it;
    uint32_t len;
    if (!bson_iter_init_find(&it, doc, key) || !BSON_ITER_HOLDS_UTF8(&it))
        return;
    const char *p = bson_iter_utf8(&it, &len);
    size_t m = len < TEXT_KEPT ? len : TEXT_KEPT;
    if (!first && sign * figures_compare(p, m, text, *n) <= 0)
        return;
    memcpy(text, p, m);
    *n = m;
}

static void add_values(struct column *c, const bson_t *doc, const int64_t counts[VALUE_N_TYPES])
{
    bool ints = counts[VALUE_int] || counts[VALUE_long], floats = counts[VALUE_double] || counts[VALUE_decimal];
    if (ints)
        add_int_range(doc, "int_min", "int_max", !c->counts[VALUE_int] && !c->counts[VALUE_long], &c->int_min, &c->int_max);
    if (counts[VALUE_date] || counts[VALUE_datetime]) {
        add_int_range(doc, "ms_min", "ms_max", !c->counts[VALUE_date] && !c->counts[VALUE_datetime], &c->ms_min, &c->ms_max);
        c->ms_min = a_time(c->ms_min);
        c->ms_max = a_time(c->ms_max);
    }
    if (floats) {
        double min = json_get_f64(doc, "min", NAN), max = json_get_f64(doc, "max", NAN);
        bool first = !c->counts[VALUE_double] && !c->counts[VALUE_decimal];
        c->min = first || isnan(c->min) || min < c->min ? min : c->min;
        c->max = first || isnan(c->max) || max > c->max ? max : c->max;
    }
    if (counts[VALUE_string]) {
        add_text(doc, "text_min", !c->counts[VALUE_string], -1, c->text_min, &c->n_text_min);
        add_text(doc, "text_max", !c->counts[VALUE_string], 1, c->text_max, &c->n_text_max);
    }
}

static void add_bins(struct bins *b, const bson_t *doc)
{
    bson_iter_t it, list;
    bson_t kept;
    if (!bson_iter_init_find(&it, doc, "bins") || !json_iter_doc(&it, &kept) || !json_get_iter(&kept, "n", &list))
        return;
    int64_t exponent = json_get_i64(&kept, "exponent", INT64_MAX), first = json_get_i64(&kept, "first", INT64_MAX);
    for (int k = 0; k < BINS && bson_iter_next(&list) && exponent == (int)exponent && first < MAX_COUNT; k++)
        bins_add_bin(b, (int)exponent, first + k, BSON_ITER_HOLDS_INT(&list) ? bson_iter_as_int64(&list) : 0);
}

static void add_column(struct column *c, const bson_t *doc, const bson_t *types)
{
    int64_t counts[VALUE_N_TYPES] = {0}, changed = count_of(doc, "changed_at");
    const char *registers = json_get_str(doc, "registers", "");
    for (int t = 0; t < VALUE_N_TYPES; t++)
        counts[t] = t == VALUE_auto ? 0 : count_of(types, value_type_name((enum value_type)t));
    add_values(c, doc, counts);
    for (int t = 0; t < VALUE_N_TYPES; t++) {
        add_count(&c->counts[t], counts[t]);
        if (counts[t] && t != VALUE_null && c->first == VALUE_null)
            c->first = (enum value_type)t;
    }
    add_count(&c->rejects, count_of(doc, "rejects"));
    if (changed && (!c->changed_at_line || changed < c->changed_at_line))
        c->changed_at_line = changed;
    add_bins(&c->bins, doc);
    add_registers(c, registers, strlen(registers));
}

void figures_add_kept(struct figures *f, const bson_t *kept)
{
    bson_iter_t it, at;
    bson_t doc, types;
    add_rules(&f->rejects, kept, "rejects_by_rule");
    add_rules(&f->repaired, kept, "repaired_by_rule");
    if (!json_get_iter(kept, "columns", &it))
        return;
    while (json_next_doc(&it, &doc)) {
        const char *name = json_get_str(&doc, "name", NULL);
        size_t i = name && strlen(name) <= MAX_NAME ? figures_find(f, name) : FIGURES_MAX_COLUMNS;
        if (i < f->n_columns && bson_iter_init_find(&at, &doc, "types") && json_iter_doc(&at, &types))
            add_column(f->columns[i], &doc, &types);
    }
}
