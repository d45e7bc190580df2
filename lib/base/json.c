#include "json.h"
#include "buf.h"
#include "clk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int json_read(const char *text, size_t n, bson_t *doc, struct err *e)
{
    bson_error_t be;
    bson_json_reader_t *r = bson_json_data_reader_new(false, 0);
    bson_json_data_reader_ingest(r, (const uint8_t *)text, n);
    int done = bson_json_reader_read(r, doc, &be);
    bson_json_reader_destroy(r);
    return done == 1 ? 0 : err_set(e, ERR_FORMAT, "malformed JSON: %s", done == 0 ? "it is empty" : be.message);
}

bson_t *json_parse(const char *text, size_t n, struct err *e)
{
    bson_t *doc = bson_new();
    if (json_read(text, n, doc, e) == 0)
        return doc;
    bson_destroy(doc);
    return NULL;
}

const char *json_get_str(const bson_t *doc, const char *key, const char *def)
{
    bson_iter_t it;
    return bson_iter_init_find(&it, doc, key) && BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, NULL) : def;
}

int64_t json_get_i64(const bson_t *doc, const char *key, int64_t def)
{
    bson_iter_t it;
    if (!bson_iter_init_find(&it, doc, key))
        return def;
    if (BSON_ITER_HOLDS_INT(&it))
        return bson_iter_as_int64(&it);
    if (BSON_ITER_HOLDS_DOUBLE(&it)) {
        double d = bson_iter_double(&it);
        return d >= -9e18 && d <= 9e18 ? (int64_t)d : def;
    }
    return def;
}

double json_get_f64(const bson_t *doc, const char *key, double def)
{
    bson_iter_t it;
    return bson_iter_init_find(&it, doc, key) && BSON_ITER_HOLDS_NUMBER(&it) ? bson_iter_as_double(&it) : def;
}

bool json_get_bool(const bson_t *doc, const char *key, bool def)
{
    bson_iter_t it;
    return bson_iter_init_find(&it, doc, key) && BSON_ITER_HOLDS_BOOL(&it) ? bson_iter_bool(&it) : def;
}

bool json_get_iter(const bson_t *doc, const char *key, bson_iter_t *ret)
{
    bson_iter_t it;
    return bson_iter_init_find(&it, doc, key) && (BSON_ITER_HOLDS_ARRAY(&it) || BSON_ITER_HOLDS_DOCUMENT(&it)) &&
           bson_iter_recurse(&it, ret);
}

bool json_iter_doc(const bson_iter_t *it, bson_t *ret)
{
    uint32_t n;
    const uint8_t *p;
    if (!BSON_ITER_HOLDS_DOCUMENT(it))
        return false;
    bson_iter_document(it, &n, &p);
    return bson_init_static(ret, p, n);
}

bool json_next_doc(bson_iter_t *it, bson_t *ret)
{
    while (bson_iter_next(it))
        if (json_iter_doc(it, ret))
            return true;
    return false;
}

static void add_i64(struct buf *out, int64_t v)
{
    char text[24], *p = text + sizeof text;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do
        *--p = (char)('0' + u % 10);
    while (u /= 10);
    if (v < 0)
        *--p = '-';
    buf_add(out, p, (size_t)(text + sizeof text - p));
}

static void add_double(struct buf *out, double v)
{
    char text[40];
    if (!isfinite(v)) {
        buf_addf(out, "{\"$numberDouble\":\"%s\"}", isnan(v) ? "NaN" : v < 0 ? "-Infinity" : "Infinity");
        return;
    }
    if (fabs(v) < 1e15 && v == floor(v) && !(v == 0 && signbit(v))) {
        add_i64(out, (int64_t)v);
        buf_add(out, ".0", 2);
        return;
    }
    /* Most numbers that people write have few decimals. For these mantissa and power of ten are exact doubles, so their quotient is
     * the double that parsing the text gives. */
    double power = 10;
    for (int decimals = 1; decimals <= 9; decimals++, power *= 10) {
        double m = rint(v * power);
        if (fabs(m) < 9e15 && m / power == v) {
            uint64_t whole = (uint64_t)(fabs(m) / power), rest = (uint64_t)fabs(m) - whole * (uint64_t)power;
            if (signbit(v))
                buf_add(out, "-", 1);
            add_i64(out, (int64_t)whole);
            char *p = text + decimals;
            for (*p = 0; p > text; rest /= 10)
                *--p = (char)('0' + rest % 10);
            buf_add(out, ".", 1);
            buf_add(out, text, (size_t)decimals);
            return;
        }
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_adds(out, text);
    if (!strpbrk(text, ".e"))
        buf_add(out, ".0", 2);
}

static void add_value(struct buf *out, const char *key, const bson_iter_t *it)
{
    char text[CLK_RFC3339_SIZE > BSON_DECIMAL128_STRING ? CLK_RFC3339_SIZE : BSON_DECIMAL128_STRING];
    bson_iter_t in;
    bson_decimal128_t decimal;
    uint32_t n;
    const char *s;
    if (BSON_ITER_HOLDS_UTF8(it)) {
        s = bson_iter_utf8(it, &n);
        json_strn(out, key, s, n);
        return;
    }
    if (BSON_ITER_HOLDS_DOCUMENT(it) || BSON_ITER_HOLDS_ARRAY(it)) {
        bool array = BSON_ITER_HOLDS_ARRAY(it);
        json_begin(out, key, array ? '[' : '{');
        if (bson_iter_recurse(it, &in))
            while (bson_iter_next(&in))
                add_value(out, array ? NULL : bson_iter_key(&in), &in);
        json_end(out, array ? ']' : '}');
        return;
    }
    json_raw(out, key, "");
    switch (bson_iter_type(it)) {
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
        add_i64(out, bson_iter_as_int64(it));
        break;
    case BSON_TYPE_DOUBLE:
        add_double(out, bson_iter_double(it));
        break;
    case BSON_TYPE_BOOL:
        buf_adds(out, bson_iter_bool(it) ? "true" : "false");
        break;
    case BSON_TYPE_DATE_TIME:
        if (bson_iter_date_time(it) >= 0 && bson_iter_date_time(it) < 253402300800000)
            buf_addf(out, "{\"$date\":\"%s\"}", clk_rfc3339(bson_iter_date_time(it), text));
        else
            buf_addf(out, "{\"$date\":{\"$numberLong\":\"%lld\"}}", (long long)bson_iter_date_time(it));
        break;
    case BSON_TYPE_DECIMAL128:
        bson_iter_decimal128(it, &decimal);
        bson_decimal128_to_string(&decimal, text);
        buf_addf(out, "{\"$numberDecimal\":\"%s\"}", text);
        break;
    case BSON_TYPE_NULL:
        buf_adds(out, "null");
        break;
    default: { /* types that come in as Extended JSON only: ObjectId, binary and so on */
        bson_t one = BSON_INITIALIZER;
        bson_append_iter(&one, "v", 1, it);
        char *json = bson_as_relaxed_extended_json(&one, NULL);
        const char *from = strchr(json, ':') + 2;
        buf_add(out, from, strlen(from) - 2);
        bson_free(json);
        bson_destroy(&one);
    }
    }
}

void json_from_bson(const bson_t *doc, struct buf *out)
{
    bson_iter_t it;
    json_begin(out, NULL, '{');
    if (bson_iter_init(&it, doc))
        while (bson_iter_next(&it))
            add_value(out, bson_iter_key(&it), &it);
    json_end(out, '}');
}

bool json_doc_of_elements(const void *elements, size_t n, struct buf *room, bson_t *ret)
{
    uint32_t size = BSON_UINT32_TO_LE((uint32_t)n + 5);
    buf_reset(room);
    buf_add(room, &size, sizeof size);
    buf_add(room, elements, n);
    buf_add(room, "", 1);
    return bson_init_static(ret, (const uint8_t *)room->p, room->n);
}
