#include "json.h"

bson_t *json_parse(const char *text, size_t n, struct err *e)
{
    bson_error_t be;
    bson_t *doc = bson_new_from_json((const uint8_t *)text, (ssize_t)n, &be);
    if (!doc)
        err_set(e, ERR_FORMAT, "malformed JSON: %s", be.message);
    return doc;
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
