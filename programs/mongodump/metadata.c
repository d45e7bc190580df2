#include "metadata.h"

#include "base/json.h"
#include "base/mem.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { UUID_BYTES = 16 };

static void add_uuid(const bson_t *info, bson_t *doc)
{
    const uint8_t *p;
    uint32_t n;
    bson_subtype_t subtype;
    bson_iter_t it, uuid;
    char hex[2 * UUID_BYTES + 1];
    if (!bson_iter_init(&it, info) || !bson_iter_find_descendant(&it, "info.uuid", &uuid) || !BSON_ITER_HOLDS_BINARY(&uuid))
        return;
    bson_iter_binary(&uuid, &subtype, &n, &p);
    if (subtype == BSON_SUBTYPE_UUID && n == UUID_BYTES)
        BSON_APPEND_UTF8(doc, "uuid", sodium_bin2hex(hex, sizeof hex, p, n));
}

int metadata_write(const bson_t *info, const bson_t *indexes, struct buf *out, struct err *e)
{
    AUTO_BSON_DOC bson_t doc = BSON_INITIALIZER;
    bson_iter_t it;
    bson_t options;
    size_t n = 0;
    const char *name = json_get_str(info, "name", ""), *type = json_get_str(info, "type", NULL);
    if (bson_iter_init_find(&it, info, "options") && json_iter_doc(&it, &options) && bson_count_keys(&options))
        BSON_APPEND_DOCUMENT(&doc, "options", &options);
    BSON_APPEND_ARRAY(&doc, "indexes", indexes);
    add_uuid(info, &doc);
    BSON_APPEND_UTF8(&doc, "collectionName", name);
    if (type)
        BSON_APPEND_UTF8(&doc, "type", type);
    char *text = bson_as_canonical_extended_json(&doc, &n);
    AUTO_BSON bson_t *back = text ? json_parse(text, n, NULL) : NULL;
    if (back && bson_equal(back, &doc)) {
        buf_add(out, text, n);
        bson_free(text);
        return 0;
    }
    bson_free(text);
    return err_set(e, ERR_FORMAT,
                   "the options or indexes of collection %s cannot be written as Extended JSON and read back; use mongodump", name);
}

/* ---- reading ---- */

static bool is_of_id(const bson_t *index)
{
    bson_iter_t it;
    bson_t key;
    return bson_iter_init_find(&it, index, "key") && json_iter_doc(&it, &key) && bson_count_keys(&key) == 1 &&
           bson_iter_init_find(&it, &key, "_id") && BSON_ITER_HOLDS_NUMBER(&it);
}

static int add_index(struct metadata *m, const bson_t *index, const char *path, struct err *e)
{
    bson_iter_t it;
    if (is_of_id(index))
        return 0;
    if (!json_get_iter(index, "key", &it) || !json_get_str(index, "name", NULL))
        return err_set(e, ERR_FORMAT, "%s: an index has no key or no name", path);
    m->indexes = xgrow(m->indexes, m->n_indexes, sizeof *m->indexes);
    bson_t *copy = m->indexes[m->n_indexes++] = bson_new();
    bson_copy_to_excluding_noinit(index, copy, "ns", NULL);
    return 0;
}

static int take(const bson_t *doc, const char *path, struct metadata *m, struct err *e)
{
    bson_iter_t it;
    bson_t one;
    int r = 0;
    const char *type = json_get_str(doc, "type", "");
    m->collection = xstrdup(json_get_str(doc, "collectionName", NULL));
    if (bson_iter_init_find(&it, doc, "options") && json_iter_doc(&it, &one) && bson_count_keys(&one))
        m->options = bson_copy(&one);
    m->view = !strcmp(type, "view") || (m->options && bson_has_field(m->options, "viewOn"));
    m->timeseries = !strcmp(type, "timeseries") || (m->options && bson_has_field(m->options, "timeseries"));
    if (!json_get_iter(doc, "indexes", &it))
        return 0;
    while (r == 0 && json_next_doc(&it, &one))
        r = add_index(m, &one, path, e);
    return r;
}

int metadata_read(const char *text, size_t n, const char *path, struct metadata *ret, struct err *e)
{
    *ret = (struct metadata){0};
    if (!n)
        return 0; /* mongorestore takes that, too */
    AUTO_BSON bson_t *doc = json_parse(text, n, e);
    if (!doc) {
        err_context(e, "%s is damaged", path);
        return ERR_FORMAT;
    }
    struct metadata m = {0};
    int r = take(doc, path, &m, e);
    if (r < 0)
        metadata_fini(&m);
    else
        *ret = m;
    return r;
}

void metadata_fini(struct metadata *m)
{
    for (size_t i = 0; i < m->n_indexes; i++)
        bson_destroy(m->indexes[i]);
    free(m->indexes);
    if (m->options)
        bson_destroy(m->options);
    free(m->collection);
    *m = (struct metadata){0};
}
