/* JSON records, and JSON in the cells of CSV. libbson parses; json_trap first refuses what libbson would accept but not keep. */
#include "base/json.h"
#include "base/mem.h"
#include "plan_parts.h"
#include "scan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libbson ignores what follows the first object, and wraps integers of more than 64 bits: both would lose data silently. Returns
 * NULL when neither is the case, else what is wrong, and where. */
static const char *json_trap(const char *p, size_t n, size_t *ret_at)
{
    int depth = 0;
    for (size_t i = 0; i < n; i++) {
        *ret_at = i;
        if (p[i] == '"') {
            for (i++; i < n && p[i] != '"'; i++)
                i += p[i] == '\\';
        } else if (p[i] == '{' || p[i] == '[') {
            depth++;
        } else if (p[i] == '}' || p[i] == ']') {
            depth--;
        } else if (p[i] >= '0' && p[i] <= '9') {
            size_t from = i;
            while (i < n && p[i] >= '0' && p[i] <= '9')
                i++;
            bool whole = i == n || (p[i] != '.' && p[i] != 'e' && p[i] != 'E');
            if (whole && i - from > 19)
                return "an integer of more than 64 bits";
            while (i < n &&
                   (p[i] == '.' || p[i] == 'e' || p[i] == 'E' || p[i] == '+' || p[i] == '-' || (p[i] >= '0' && p[i] <= '9')))
                i++;
            i--;
        }
        if (depth == 0 && i < n && p[i] == '}') {
            for (i++; i < n; i++) {
                *ret_at = i;
                if (!scan_is_blank(p[i]))
                    return "something stands behind the JSON object";
            }
        }
    }
    return NULL;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* MongoDB would store both members of the same name, readers would see either, and nobody could tell which was meant. */
static bool has_twin_keys(const bson_t *doc, bool deep)
{
    AUTO_FREE const char **keys = NULL;
    size_t n = 0;
    bool twins = false;
    bson_iter_t it;
    bson_t inner;
    uint32_t size;
    const uint8_t *b;
    if (!bson_iter_init(&it, doc))
        return false;
    while (!twins && bson_iter_next(&it)) {
        keys = xgrow(keys, n, sizeof *keys);
        keys[n++] = bson_iter_key(&it);
        if (deep && BSON_ITER_HOLDS_DOCUMENT(&it))
            bson_iter_document(&it, &size, &b);
        else if (deep && BSON_ITER_HOLDS_ARRAY(&it))
            bson_iter_array(&it, &size, &b);
        else
            continue;
        twins = bson_init_static(&inner, b, size) && has_twin_keys(&inner, true); /* libbson bounds the depth */
    }
    if (n > 1)
        qsort(keys, n, sizeof *keys, by_key);
    for (size_t i = 1; !twins && i < n; i++)
        twins = !strcmp(keys[i - 1], keys[i]);
    return twins;
}

bool plan_json_cell(struct plan *p, const struct cell *c, struct value *v)
{
    AUTO_BUF struct buf text = {0};
    AUTO_BSON_DOC bson_t doc = BSON_INITIALIZER;
    buf_adds(&text, "{\"v\":");
    buf_add(&text, c->p, c->n);
    buf_adds(&text, "}");
    size_t at;
    if (json_trap(text.p, text.n, &at) || json_read(text.p, text.n, &doc, NULL) < 0)
        return false;
    if (bson_count_keys(&doc) != 1 || !bson_has_field(&doc, "v") || has_twin_keys(&doc, true))
        return false;
    *v = (struct value){.type = VALUE_json, .p = c->p, .n = c->n, .i = (int64_t)p->json.n};
    buf_add(&p->json, bson_get_data(&doc), doc.len);
    return true;
}

/* A JSON number without a fraction, as `type`; false: it does not fit that type. */
static bool convert_integer(enum value_type type, const bson_iter_t *it, struct value *v)
{
    char text[24];
    struct value parsed;
    v->i = bson_iter_as_int64(it);
    switch (type) {
    case VALUE_auto:
        v->type = BSON_ITER_HOLDS_INT32(it) ? VALUE_int : VALUE_long;
        return true;
    case VALUE_int:
        return v->i >= INT32_MIN && v->i <= INT32_MAX;
    case VALUE_long:
        return true;
    case VALUE_double:
        v->f = (double)v->i;
        return true;
    case VALUE_decimal:
        snprintf(text, sizeof text, "%lld", (long long)v->i);
        return bson_decimal128_from_string(text, &v->decimal);
    case VALUE_datetime:
        snprintf(text, sizeof text, "%lld", (long long)v->i);
        if (!value_parse(VALUE_datetime, text, strlen(text), &parsed))
            return false;
        v->i = parsed.i;
        return true;
    default:
        return false;
    }
}

/* The same of one with a fraction or an exponent. */
static bool convert_double(enum value_type type, double number, struct value *v)
{
    char text[64];
    v->f = number;
    switch (type) {
    case VALUE_auto:
    case VALUE_double:
        v->type = VALUE_double;
        return true;
    case VALUE_decimal:
        snprintf(text, sizeof text, "%.15g", number);
        if (strtod(text, NULL) != number)
            snprintf(text, sizeof text, "%.17g", number);
        return bson_decimal128_from_string(text, &v->decimal);
    case VALUE_int:
    case VALUE_long:
        if (number != floor(number) || fabs(number) >= 9.2e18)
            return false;
        v->i = (int64_t)number;
        return type == VALUE_long || (v->i >= INT32_MIN && v->i <= INT32_MAX);
    default:
        return false;
    }
}

/* The member under `it` as the type its rule asks for. */
static bool convert_member(struct plan *p, const struct column *c, bson_iter_t *it, struct value *v)
{
    uint32_t n;
    *v = (struct value){.type = c->type};
    switch (bson_iter_type(it)) {
    case BSON_TYPE_NULL:
        v->type = VALUE_null;
        return true;
    case BSON_TYPE_UTF8:
        v->p = bson_iter_utf8(it, &n);
        v->n = n;
        if (c->type == VALUE_auto || c->type == VALUE_string) {
            v->type = VALUE_string;
            return true;
        }
        return c->type != VALUE_json && value_parse(c->type, v->p, v->n, v);
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
        return convert_integer(c->type, it, v);
    case BSON_TYPE_DOUBLE:
        return convert_double(c->type, bson_iter_double(it), v);
    case BSON_TYPE_BOOL:
        v->b = bson_iter_bool(it);
        v->type = VALUE_bool;
        return c->type == VALUE_auto || c->type == VALUE_bool;
    case BSON_TYPE_DATE_TIME:
        v->i = bson_iter_date_time(it);
        v->type = c->type == VALUE_auto ? VALUE_datetime : c->type;
        return c->type == VALUE_auto || c->type == VALUE_date || c->type == VALUE_datetime;
    case BSON_TYPE_DECIMAL128:
        v->type = VALUE_decimal;
        return (c->type == VALUE_auto || c->type == VALUE_decimal) && bson_iter_decimal128(it, &v->decimal);
    default:
        return false;
    }
}

/* An element as it is, at p->json with the key "v", so that put_value can write it under another. */
static void keep_element(struct plan *p, const bson_iter_t *it, struct value *v)
{
    bson_t doc = BSON_INITIALIZER;
    bson_append_iter(&doc, "v", 1, it);
    *v = (struct value){.type = VALUE_json, .i = (int64_t)p->json.n};
    buf_add(&p->json, bson_get_data(&doc), doc.len);
    bson_destroy(&doc);
}

static bool find_member(const bson_t *doc, const char *name, bson_iter_t *ret)
{
    bson_iter_t it;
    return bson_iter_init_find(ret, doc, name) ||
           (strchr(name, '.') && bson_iter_init(&it, doc) && bson_iter_find_descendant(&it, name, ret));
}

static int convert_members(struct plan *p, const bson_t *doc, struct record *rec)
{
    for (size_t i = 0; i < p->n_columns; i++) {
        const struct column *c = &p->columns[i];
        struct value *v = &p->values[i];
        bson_iter_t it;
        if (c->rule->value)
            continue;
        v->type = VALUE_N_TYPES;
        bool has = find_member(doc, c->name, &it);
        struct value none = {.type = VALUE_null};
        bool whole = has && (BSON_ITER_HOLDS_DOCUMENT(&it) || BSON_ITER_HOLDS_ARRAY(&it) || c->type == VALUE_json) &&
                     (c->type == VALUE_auto || c->type == VALUE_json) && !BSON_ITER_HOLDS_NULL(&it);
        if (whole)
            keep_element(p, &it, v);
        else if (has && !convert_member(p, c, &it, v))
            return plan_wrong_type(p, c, BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, NULL) : "another type",
                                   BSON_ITER_HOLDS_UTF8(&it) ? strlen(bson_iter_utf8(&it, NULL)) : 12, rec, 0);
        int r = c->checked ? plan_check_value(p, c, has ? v : &none, rec, 0) : 0;
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < p->spec->key.n; i++) {
        bson_iter_t it;
        if (!spec_rule(p->spec, p->spec->key.v[i], strlen(p->spec->key.v[i])) &&
            (!find_member(doc, p->spec->key.v[i], &it) || BSON_ITER_HOLDS_NULL(&it)))
            return plan_refuse(p, rec, "required", 0, "'%s' is part of the key and missing or null here", p->spec->key.v[i]);
    }
    return 0;
}

static size_t rule_of_member(const struct plan *p, const char *key)
{
    size_t i = 0;
    while (i < p->n_columns && strcmp(p->columns[i].name, key))
        i++;
    return i;
}

static int put_members(struct plan *p, const bson_t *doc, struct record *rec, struct buf *out)
{
    bson_iter_t it;
    size_t start = out->n;
    buf_reserve(out, p->room + doc->len + p->json.n + 64 + bson_count_keys(doc) * (KEY_ROOM + 24));
    char *o = out->p + out->n;
    bson_iter_init(&it, doc);
    while (bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);
        size_t i = rule_of_member(p, key);
        if (i == p->n_columns) { /* no rule: as it is */
            uint32_t from = bson_iter_offset(&it), to = it.next_off;
            memcpy(o, bson_get_data(doc) + from, to - from);
            o += to - from;
        } else if (!p->columns[i].rule->value && !strchr(p->columns[i].rule->target, '.')) {
            struct op op = {.n_key = (uint32_t)strlen(p->columns[i].rule->target) + 1};
            op.long_key = p->columns[i].rule->target;
            o = plan_put_value(p, o, &op, &p->values[i]);
        }
    }
    o = plan_put_ops(p, o);
    out->n = (size_t)(o - out->p);
    if (p->nested) { /* a renamed field may meet one that is there */
        bson_t whole;
        AUTO_BUF struct buf room = {0};
        if (json_doc_of_elements(out->p + start, out->n - start, &room, &whole) && has_twin_keys(&whole, false)) {
            out->n = start;
            return plan_refuse(p, rec, "columns", 0, "two members would be stored as one field");
        }
    }
    return 0;
}

static void count_members(struct plan *p, const bson_t *doc, const struct record *rec)
{
    bson_iter_t it;
    struct column any = {.type = VALUE_auto};
    bson_iter_init(&it, doc);
    while (bson_iter_next(&it)) {
        struct value v;
        size_t i = rule_of_member(p, bson_iter_key(&it));
        uint32_t n;
        const uint8_t *b;
        if (i < p->n_columns && !p->columns[i].rule->value)
            v = p->values[i];
        else if (!convert_member(p, &any, &it, &v))
            v.type = VALUE_json;
        if (v.type == VALUE_json) {
            v = (struct value){.type = VALUE_json};
            if (BSON_ITER_HOLDS_DOCUMENT(&it))
                bson_iter_document(&it, &n, &b);
            else if (BSON_ITER_HOLDS_ARRAY(&it))
                bson_iter_array(&it, &n, &b);
            else
                b = (const uint8_t *)"", n = 0;
            v.p = (const char *)b;
            v.n = n;
        }
        figures_add(p->figures, figures_find(p->figures, bson_iter_key(&it)), &v, rec->line);
    }
}

int plan_json(struct plan *p, struct record *rec, struct buf *out)
{
    AUTO_BSON_DOC bson_t doc = BSON_INITIALIZER;
    bson_error_t be;
    size_t i = 0;
    int r = 0;
    p->json.n = 0;
    rec->type = "json";
    while (i < rec->n && scan_is_blank(rec->raw[i]))
        i++;
    if (i == rec->n || rec->raw[i] != '{')
        return plan_refuse(p, rec, "json", 0, "not a JSON object");
    const char *trap = json_trap(rec->raw, rec->n, &i);
    if (trap) {
        rec->spot = i < rec->n ? i : 0;
        return plan_refuse(p, rec, "json", 0, "%s", trap);
    }
    if (!bson_init_from_json(&doc, rec->raw, (ssize_t)rec->n, &be)) {
        bson_init(&doc); /* libbson has destroyed it */
        for (char *c = be.message; *c; c++)
            if ((unsigned char)*c < 0x20)
                *c = ' ';
        const char *at = strstr(be.message, "position ");
        if (at && (size_t)atol(at + 9) < rec->n)
            rec->spot = (size_t)atol(at + 9);
        return plan_refuse(p, rec, "json", 0, "malformed JSON: %.200s", be.message);
    }
    if (bson_has_field(&doc, "_id") && !(p->n_columns && rule_of_member(p, "_id") < p->n_columns))
        r = plan_refuse(p, rec, "json", 0, "'_id' is set by the platform; name the field otherwise");
    else if (has_twin_keys(&doc, true))
        r = plan_refuse(p, rec, "json", 0, "a key stands twice in one object");
    else
        rec->type = NULL;
    if (r == 0 && (p->n_columns || p->spec->key.n))
        r = convert_members(p, &doc, rec);
    if (r == 0 && p->n_columns)
        r = put_members(p, &doc, rec, out);
    else if (r == 0)
        buf_add(out, bson_get_data(&doc) + 4, doc.len - 5);
    if (r == 0 && p->figures)
        count_members(p, &doc, rec);
    return r;
}
