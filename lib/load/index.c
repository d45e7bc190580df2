#include "index.h"

#include <string.h>

#define UNIQUE "simbdp_unique" /* begins the names of indexes */

bool index_is_needed(const struct spec *spec)
{
    bool any = spec->key.n > 0;
    for (size_t i = 0; i < spec->n_rules; i++)
        any |= spec->rules[i].unique;
    return any;
}

static bool make_index(mongoc_collection_t *c, const struct strs *columns, bool unique, const struct spec *spec, struct buf *name,
                       bson_error_t *be)
{
    bson_t command = BSON_INITIALIZER, list, index, keys, reply;
    name->n = 0;
    buf_adds(name, unique ? UNIQUE : "simbdp_key");
    for (size_t i = 0; i < columns->n; i++)
        buf_addf(name, "_%s", spec_target(spec, columns->v[i]));
    bson_append_utf8(&command, "createIndexes", -1, mongoc_collection_get_name(c), -1);
    bson_append_array_begin(&command, "indexes", -1, &list);
    bson_append_document_begin(&list, "0", 1, &index);
    bson_append_document_begin(&index, "key", -1, &keys);
    for (size_t i = 0; i < columns->n; i++)
        bson_append_int32(&keys, spec_target(spec, columns->v[i]), -1, 1);
    bson_append_document_end(&index, &keys);
    bson_append_utf8(&index, "name", -1, name->p, (int)name->n);
    if (unique)
        bson_append_bool(&index, "unique", -1, true);
    bson_append_document_end(&list, &index);
    bson_append_array_end(&command, &list);
    bool ok = mongoc_collection_write_command_with_opts(c, &command, NULL, &reply, be);
    bson_destroy(&command);
    bson_destroy(&reply);
    return ok;
}

bool index_make_on(mongoc_collection_t *c, const struct spec *spec, struct buf *name, bson_error_t *be)
{
    bool ok = !spec->key.n || make_index(c, &spec->key, spec_shard_allows_unique(spec, &spec->key), spec, name, be);
    for (size_t i = 0; ok && i < spec->n_rules; i++)
        if (spec->rules[i].unique)
            ok = make_index(c, &(struct strs){.v = &spec->rules[i].name, .n = 1}, true, spec, name, be);
    return ok;
}

int index_make(struct sink *s, const struct spec *spec, struct err *e)
{
    bson_error_t be;
    AUTO_BUF struct buf name = {0};
    if (index_make_on(sink_collection(s), spec, &name, &be))
        return 0;
    int r = sink_error(&be, "cannot make an index", e);
    if (r == ERR_DATABASE)
        r = err_set(e, ERR_CONFIG, "the collection cannot have the %sindex %s that key or unique asks for: %s",
                    !strncmp(name.p, UNIQUE, strlen(UNIQUE)) ? "unique " : "", name.p, be.message);
    return r;
}
