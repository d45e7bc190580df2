#include "spec.h"
#include "base/json.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

enum { MAX_DEPTH = 20 };

struct parse {
    struct spec *s;
    struct err *e;
    int rule;
};

static int bad(struct parse *p, const char *key, const char *why)
{
    if (p->rule >= 0)
        return err_set(p->e, ERR_CONFIG, "columns %d: key '%s': %s", p->rule + 1, key, why);
    return err_set(p->e, ERR_CONFIG, "key '%s': %s", key, why);
}

static int take_str(struct parse *p, const bson_iter_t *it, char **ret)
{
    if (!BSON_ITER_HOLDS_UTF8(it))
        return bad(p, bson_iter_key(it), "expected a string");
    xstr_set(ret, bson_iter_utf8(it, NULL));
    return 0;
}

static int take_int(struct parse *p, const bson_iter_t *it, int64_t min, int64_t max, int64_t *ret)
{
    if (!BSON_ITER_HOLDS_INT(it) || bson_iter_as_int64(it) < min || bson_iter_as_int64(it) > max)
        return bad(p, bson_iter_key(it), "expected an integer in its range");
    *ret = bson_iter_as_int64(it);
    return 0;
}

static int take_small(struct parse *p, const bson_iter_t *it, int max, int *ret)
{
    int64_t v = 0;
    int r = take_int(p, it, SNIFFED, max, &v);
    if (r == 0)
        *ret = (int)v;
    return r;
}

static int take_bool(struct parse *p, const bson_iter_t *it, bool *ret)
{
    if (!BSON_ITER_HOLDS_BOOL(it))
        return bad(p, bson_iter_key(it), "expected true or false");
    *ret = bson_iter_bool(it);
    return 0;
}

static int take_f64(struct parse *p, const bson_iter_t *it, double *ret)
{
    if (!BSON_ITER_HOLDS_NUMBER(it))
        return bad(p, bson_iter_key(it), "expected a number");
    *ret = bson_iter_as_double(it);
    return 0;
}

const char *key_conflict_name(enum on_key_conflict v)
{
#define X(name) #name,
    static const char *const names[] = {KEY_CONFLICTS(X)};
#undef X
    return names[v];
}

static void strs_add(struct strs *l, const char *s)
{
    l->v = xrealloc(l->v, (l->n + 1) * sizeof *l->v);
    l->v[l->n] = xstrdup(s);
    l->n++;
}

static void strs_free(struct strs *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
}

static int take_strs(struct parse *p, const bson_iter_t *it, struct strs *ret)
{
    bson_iter_t in;
    if (!BSON_ITER_HOLDS_ARRAY(it) || !bson_iter_recurse(it, &in))
        return bad(p, bson_iter_key(it), "expected a list of strings");
    while (bson_iter_next(&in)) {
        if (!BSON_ITER_HOLDS_UTF8(&in))
            return bad(p, bson_iter_key(it), "expected a list of strings");
        strs_add(ret, bson_iter_utf8(&in, NULL));
    }
    return 0;
}

/* One of the words of a list "a|b|c"; its number. */
static int take_word(struct parse *p, const bson_iter_t *it, const char *words, int *ret)
{
    const char *text = BSON_ITER_HOLDS_UTF8(it) ? bson_iter_utf8(it, NULL) : "";
    size_t n = strlen(text);
    int i = 0;
    for (const char *w = words; w; w = strchr(w, '|') ? strchr(w, '|') + 1 : NULL, i++)
        if (n && !strncmp(w, text, n) && (w[n] == '|' || !w[n])) {
            *ret = i;
            return 0;
        }
    AUTO_FREE char *why = xasprintf("expected one of %s", words);
    return bad(p, bson_iter_key(it), why);
}

static int parse_csv(struct parse *p, const bson_iter_t *outer)
{
    struct spec *s = p->s;
    bson_iter_t it;
    if (!BSON_ITER_HOLDS_DOCUMENT(outer) || !bson_iter_recurse(outer, &it))
        return bad(p, "csv", "expected a group");
    while (bson_iter_next(&it)) {
        const char *k = bson_iter_key(&it);
        int r = 0, word = 0;
        if (!strcmp(k, "delimiter")) {
            r = take_str(p, &it, &s->delimiter);
            if (r == 0 && (!*s->delimiter || strlen(s->delimiter) > DELIMITER_MAX || strpbrk(s->delimiter, "\r\n")))
                r = bad(p, k, "expected one to eight bytes, no line end");
        } else if (!strcmp(k, "quote")) {
            r = take_str(p, &it, &s->quote);
            if (r == 0 && (strlen(s->quote) > 1 || (unsigned char)*s->quote >= 0x80 || strpbrk(s->quote, "\r\n")))
                r = bad(p, k, "expected one ASCII character, or nothing where there are no quotes");
        } else if (!strcmp(k, "escape")) {
            r = take_str(p, &it, &s->escape);
            if (r == 0 && (strlen(s->escape) > 1 || (unsigned char)*s->escape >= 0x80 || strpbrk(s->escape, "\r\n")))
                r = bad(p, k, "expected one ASCII character (the quote itself: doubled), or nothing");
        } else if (!strcmp(k, "encoding")) {
            r = take_str(p, &it, &s->encoding);
            if (r == 0 && encoding_parse(s->encoding) < 0)
                r = bad(p, k, "expected utf-8, latin-1, windows-1252, utf-16, utf-16le or utf-16be");
        } else if (!strcmp(k, "line_end")) {
            r = take_word(p, &it, "lf|cr|any", &s->line_end);
        } else if (!strcmp(k, "skip_rows")) {
            r = take_small(p, &it, 1000000, &s->skip_rows);
        } else if (!strcmp(k, "header_rows")) {
            r = take_small(p, &it, 10, &s->header_rows);
        } else if (!strcmp(k, "footer_rows")) {
            r = take_small(p, &it, 100, &s->footer_rows);
        } else if (!strcmp(k, "ragged")) {
            r = take_word(p, &it, "reject|pad|keep_extra", &word);
            s->ragged = (enum ragged)word;
        } else if (!strcmp(k, "damaged")) {
            r = take_word(p, &it, "reject|repair", &word);
            s->damaged = (enum damaged)word;
        } else if (!strcmp(k, "null")) {
            r = take_strs(p, &it, &s->null);
            s->null_given = true;
        } else {
            r = bad(p, k,
                    "unknown; allowed in csv: delimiter quote escape encoding line_end skip_rows header_rows footer_rows "
                    "ragged damaged null");
        }
        if (r < 0)
            return r;
    }
    if (s->quote && s->delimiter && *s->quote && strchr(s->delimiter, *s->quote))
        return bad(p, "quote", "it cannot be part of the delimiter");
    return 0;
}

static int compile(struct parse *p, struct rule *u)
{
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR why[160];
    u->code = pcre2_compile((PCRE2_SPTR)u->regex, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_NO_UTF_CHECK, &code, &at, NULL);
    if (u->code)
        return 0;
    if (code == PCRE2_ERROR_HEAP_FAILED)
        mem_exhausted();
    pcre2_get_error_message(code, why, sizeof why);
    AUTO_FREE char *text = xasprintf("%s at character %zu of \"%s\"", (char *)why, (size_t)at, u->regex);
    return bad(p, "regex", text);
}

static int check_target(struct parse *p, const char *path)
{
    int depth = 0;
    if (!strcmp(path, "_id") || !strncmp(path, "_id.", 4))
        return bad(p, "as", "'_id' is set by the platform");
    for (const char *c = path; c; c = strchr(c, '.') ? strchr(c, '.') + 1 : NULL)
        if (!*c || *c == '.' || *c == '$' || ++depth > MAX_DEPTH)
            return bad(p, "as", "expected names with '.' between them; a name is not empty and does not start with '$'");
    return 0;
}

/* Two columns must not be stored as one field, nor one inside the other. */
static int check_targets(struct parse *p, const struct rule *u)
{
    for (size_t i = 0; i + 1 < p->s->n_rules; i++) {
        const struct rule *other = &p->s->rules[i];
        size_t a = strlen(other->target), b = strlen(u->target), n = a < b ? a : b;
        if (!strcmp(other->name, u->name))
            return bad(p, "name", "the column stands twice");
        if (!strncmp(other->target, u->target, n) && (a == b || (a < b ? u->target[n] : other->target[n]) == '.'))
            return bad(p, "as", "two columns would be stored as one field");
    }
    return 0;
}

static int check_rule(struct parse *p, struct rule *u)
{
    struct value v;
    bool number = u->type == VALUE_auto || u->type == VALUE_int || u->type == VALUE_long || u->type == VALUE_double ||
                  u->type == VALUE_decimal;
    if (!u->name || !*u->name)
        return bad(p, "name", "it is missing");
    if (!u->target)
        u->target = spec_field_name(u->name, strlen(u->name));
    int r = check_target(p, u->target);
    if (r == 0)
        r = check_targets(p, u);
    if (r == 0 && u->regex)
        r = compile(p, u);
    if (r < 0)
        return r;
    if ((!isnan(u->min) || !isnan(u->max)) && !number)
        return bad(p, isnan(u->min) ? "max" : "min", "only numbers have one");
    if (u->min > u->max)
        return bad(p, "min", "it is above max");
    if (u->max_age_days >= 0 && u->type != VALUE_auto && u->type != VALUE_date && u->type != VALUE_datetime)
        return bad(p, "max_age_days", "only date and datetime have an age");
    if (u->max_age_days >= 0 && u->type == VALUE_auto)
        u->type = VALUE_datetime;
    if (u->value && (u->required || u->regex || u->one_of.n || !isnan(u->min) || !isnan(u->max) || u->max_age_days >= 0))
        return bad(p, "value", "a constant takes no rules");
    if (u->value && u->type != VALUE_auto && u->type != VALUE_json && !value_parse(u->type, u->value, strlen(u->value), &v))
        return bad(p, "value", "it is not of the column's type");
    return 0;
}

static int parse_rule(struct parse *p, const bson_iter_t *outer)
{
    struct spec *s = p->s;
    bson_iter_t it;
    if (!BSON_ITER_HOLDS_DOCUMENT(outer) || !bson_iter_recurse(outer, &it))
        return bad(p, "columns", "expected groups");
    s->rules = xrealloc(s->rules, (s->n_rules + 1) * sizeof *s->rules);
    struct rule *u = &s->rules[s->n_rules++];
    *u = (struct rule){.min = NAN, .max = NAN, .max_age_days = -1};
    while (bson_iter_next(&it)) {
        const char *k = bson_iter_key(&it);
        int r = 0;
        if (!strcmp(k, "name")) {
            r = take_str(p, &it, &u->name);
        } else if (!strcmp(k, "type")) {
            int t = BSON_ITER_HOLDS_UTF8(&it) ? value_type_parse(bson_iter_utf8(&it, NULL)) : -1;
            if (t < 0 || t == VALUE_null)
                r = bad(p, k, "expected string int long double decimal bool date datetime or json");
            else
                u->type = (enum value_type)t;
        } else if (!strcmp(k, "required")) {
            r = take_bool(p, &it, &u->required);
        } else if (!strcmp(k, "unique")) {
            r = take_bool(p, &it, &u->unique);
        } else if (!strcmp(k, "regex")) {
            r = take_str(p, &it, &u->regex);
        } else if (!strcmp(k, "min")) {
            r = take_f64(p, &it, &u->min);
        } else if (!strcmp(k, "max")) {
            r = take_f64(p, &it, &u->max);
        } else if (!strcmp(k, "enum")) {
            r = take_strs(p, &it, &u->one_of);
        } else if (!strcmp(k, "max_age_days")) {
            r = take_int(p, &it, -1, 1000000, &u->max_age_days);
        } else if (!strcmp(k, "as")) {
            r = take_str(p, &it, &u->target);
        } else if (!strcmp(k, "value")) {
            r = take_str(p, &it, &u->value);
        } else {
            r = bad(p, k, "unknown; allowed in columns: name type required regex min max enum unique max_age_days as value");
        }
        if (r < 0)
            return r;
    }
    return check_rule(p, u);
}

static int parse_rules(struct parse *p, const bson_iter_t *outer)
{
    bson_iter_t it;
    int r = 0;
    if (!BSON_ITER_HOLDS_ARRAY(outer) || !bson_iter_recurse(outer, &it))
        return bad(p, "columns", "expected a list");
    for (p->rule = 0; r == 0 && bson_iter_next(&it); p->rule++)
        r = parse_rule(p, &it);
    if (r == 0)
        p->rule = -1;
    else
        p->rule--;
    return r;
}

static int parse_shard(struct parse *p, const bson_iter_t *outer)
{
    bson_iter_t it;
    int r = 0;
    if (!BSON_ITER_HOLDS_DOCUMENT(outer) || !bson_iter_recurse(outer, &it))
        return bad(p, "shard", "expected a group");
    while (r == 0 && bson_iter_next(&it)) {
        const char *k = bson_iter_key(&it);
        if (!strcmp(k, "key"))
            r = take_strs(p, &it, &p->s->shard);
        else if (!strcmp(k, "hashed"))
            r = take_str(p, &it, &p->s->hashed);
        else
            r = bad(p, k, "unknown; allowed in shard: key hashed");
    }
    return r;
}

static bool is_path(const char *path)
{
    for (const char *c = path; c; c = strchr(c, '.') ? strchr(c, '.') + 1 : NULL)
        if (!*c || *c == '.' || *c == '$')
            return false;
    return strcmp(path, SPEC_ID) != 0 && strncmp(path, SPEC_ID ".", 4) != 0;
}

static bool has_target(const struct spec *s, const struct strs *columns, const char *field)
{
    for (size_t i = 0; i < columns->n; i++)
        if (!strcmp(spec_target(s, columns->v[i]), field))
            return true;
    return false;
}

bool spec_shard_allows_unique(const struct spec *s, const struct strs *columns)
{
    bool all = s->shard.n <= columns->n;
    for (size_t i = 0; all && i < s->shard.n; i++)
        all = !strcmp(spec_target(s, s->shard.v[i]), spec_target(s, columns->v[i]));
    return all;
}

/* mongodb.com/docs/manual/core/sharding-shard-key-indexes: a shard knows of its own rows only. A key that replaces is the _id, too:
 * that one is unique without an index where rows with the same key are on the same shard. */
static int check_unique(struct parse *p)
{
    struct spec *s = p->s;
    if (s->on_key_conflict != KEY_replace && s->key.n && !spec_shard_allows_unique(s, &s->key))
        return bad(
            p, "shard.key",
            "a sharded MongoDB keeps `key` unique only where key begins with the columns of shard.key, in that order; shard by "
            "those key begins with, or put them first in key, or use on_key_conflict = \"replace\"");
    for (size_t i = 0; i < s->n_rules; i++) {
        const struct strs one = {.v = &s->rules[i].name, .n = 1};
        if (!s->rules[i].unique || spec_shard_allows_unique(s, &one))
            continue;
        AUTO_FREE char *why = xasprintf("a sharded MongoDB cannot keep the column '%s' unique unless it is the shard key; take its "
                                        "`unique` out, or use shard.key = (\"%s\")",
                                        s->rules[i].name, s->rules[i].name);
        p->rule = (int)i;
        return bad(p, "unique", why);
    }
    return 0;
}

/* What MongoDB would say when the collection is sharded, or of each row. */
static int check_shard(struct parse *p)
{
    struct spec *s = p->s;
    bool known = !s->hashed;
    if (s->hashed && !s->shard.n)
        return bad(p, "shard.hashed", "there is no shard.key; name its columns, or \"_id\"");
    for (size_t i = 0; i < s->shard.n; i++) {
        const char *column = s->shard.v[i], *field = spec_target(s, column);
        known |= s->hashed && !strcmp(s->hashed, column);
        if (strcmp(column, SPEC_ID) != 0 && !is_path(field))
            return bad(p, "shard.key", "expected columns, fields with '.' between their names, or \"_id\"");
        for (size_t k = 0; k < i; k++)
            if (!strcmp(spec_target(s, s->shard.v[k]), field))
                return bad(p, "shard.key", "a field stands twice");
        if (s->on_key_conflict == KEY_replace && strcmp(column, SPEC_ID) != 0 && !has_target(s, &s->key, field)) {
            AUTO_FREE char *why = xasprintf(
                "'%s' is not part of key: with on_key_conflict = \"replace\" a row must find its elder on the same shard; "
                "take columns of key, or \"_id\", which is made of them",
                column);
            return bad(p, "shard.key", why);
        }
    }
    if (!known)
        return bad(p, "shard.hashed", "it is none of shard.key");
    return check_unique(p);
}

static int parse_all(struct parse *p, const bson_t *doc)
{
    struct spec *s = p->s;
    bson_iter_t it;
    int r = 0, word = 0;
    bson_iter_init(&it, doc);
    while (r == 0 && bson_iter_next(&it)) {
        const char *k = bson_iter_key(&it);
        if (!strcmp(k, "format")) {
            r = take_word(p, &it, "csv|json", &word);
            s->format = (enum reader_format)word;
        } else if (!strcmp(k, "csv")) {
            r = parse_csv(p, &it);
        } else if (!strcmp(k, "columns")) {
            r = parse_rules(p, &it);
        } else if (!strcmp(k, "key")) {
            r = take_strs(p, &it, &s->key);
        } else if (!strcmp(k, "on_key_conflict")) {
            r = take_word(p, &it, "reject|keep|replace", &word);
            s->on_key_conflict = (enum on_key_conflict)word;
        } else if (!strcmp(k, "shard")) {
            r = parse_shard(p, &it);
        } else if (!strcmp(k, "max_row_bytes")) {
            r = take_int(p, &it, -1, INT64_MAX, &s->max_row_bytes);
        } else if (!strcmp(k, "now_ms")) {
            r = take_int(p, &it, 0, INT64_MAX, &s->now_ms);
        } else if (!strcmp(k, "types")) {
            r = take_word(p, &it, "inferred|all-string", &word);
            s->all_string = word == 1;
        } else {
            r = bad(p, k, "unknown; allowed: format csv columns key on_key_conflict shard max_row_bytes now_ms types");
        }
    }
    if (r == 0 && s->on_key_conflict == KEY_replace && !s->key.n)
        r = bad(p, "on_key_conflict", "\"replace\" needs a key");
    return r == 0 ? check_shard(p) : r;
}

int spec_parse(const char *json, size_t n, struct spec **ret, int *ret_rule, struct err *e)
{
    AUTO_SPEC struct spec *s = xcalloc(1, sizeof *s);
    struct parse p = {s, e, -1};
    s->line_end = s->skip_rows = s->header_rows = s->footer_rows = SNIFFED;
    s->max_row_bytes = s->max_rows = s->max_columns = -1;
    AUTO_BSON bson_t *doc = json_parse(json, n, e);
    int r = doc ? parse_all(&p, doc) : ERR_FORMAT;
    if (ret_rule)
        *ret_rule = p.rule;
    if (r == 0)
        *ret = TAKE(s);
    return r;
}

void spec_free(struct spec *s)
{
    if (!s)
        return;
    free(s->delimiter);
    free(s->quote);
    free(s->escape);
    free(s->encoding);
    strs_free(&s->null);
    strs_free(&s->key);
    strs_free(&s->shard);
    free(s->hashed);
    for (size_t i = 0; i < s->n_rules; i++) {
        struct rule *u = &s->rules[i];
        free(u->name);
        free(u->target);
        free(u->value);
        free(u->regex);
        pcre2_code_free(u->code);
        strs_free(&u->one_of);
    }
    free(s->rules);
    free(s);
}

const struct rule *spec_rule(const struct spec *s, const char *name, size_t n)
{
    for (size_t i = 0; i < s->n_rules; i++)
        if (strlen(s->rules[i].name) == n && !memcmp(s->rules[i].name, name, n))
            return &s->rules[i];
    return NULL;
}

const char *spec_target(const struct spec *s, const char *column)
{
    const struct rule *u = spec_rule(s, column, strlen(column));
    return u ? u->target : column;
}

bool spec_is_key(const struct spec *s, const char *name)
{
    for (size_t i = 0; i < s->key.n; i++)
        if (!strcmp(s->key.v[i], name))
            return true;
    return false;
}

char *spec_field_name(const char *name, size_t n)
{
    char *field = xstrndup(name, n);
    if (field[0] == '$')
        field[0] = '_';
    for (char *p = field; *p; p++)
        if (*p == '.')
            *p = '_';
    return field;
}
