#include "index.h"
#include "base/buf.h"

bool index_is_needed(const struct spec *spec)
{
    bool any = spec->key.n > 0;
    for (size_t i = 0; i < spec->n_rules; i++)
        any |= spec->rules[i].unique;
    return any;
}

static int make_index(struct sink *s, char *const *columns, size_t n, const struct spec *spec, struct err *e)
{
    bson_error_t be;
    bson_t command = BSON_INITIALIZER, list, index, keys, reply;
    AUTO_BUF struct buf name = {0};
    buf_adds(&name, "simbdp_unique");
    for (size_t i = 0; i < n; i++)
        buf_addf(&name, "_%s", spec_target(spec, columns[i]));
    bson_append_utf8(&command, "createIndexes", -1, mongoc_collection_get_name(sink_collection(s)), -1);
    bson_append_array_begin(&command, "indexes", -1, &list);
    bson_append_document_begin(&list, "0", 1, &index);
    bson_append_document_begin(&index, "key", -1, &keys);
    for (size_t i = 0; i < n; i++)
        bson_append_int32(&keys, spec_target(spec, columns[i]), -1, 1);
    bson_append_document_end(&index, &keys);
    bson_append_utf8(&index, "name", -1, name.p, (int)name.n);
    bson_append_bool(&index, "unique", -1, true);
    bson_append_document_end(&list, &index);
    bson_append_array_end(&command, &list);
    bool ok = mongoc_collection_write_command_with_opts(sink_collection(s), &command, NULL, &reply, &be);
    bson_destroy(&command);
    bson_destroy(&reply);
    if (ok)
        return 0;
    int r = sink_error(&be, "cannot make the unique index", e);
    if (r == ERR_DATABASE)
        r = err_set(e, ERR_CONFIG, "the collection cannot have the unique index %s that key or unique asks for: %s", name.p,
                    be.message);
    return r;
}

int index_make(struct sink *s, const struct spec *spec, struct err *e)
{
    int r = spec->key.n ? make_index(s, spec->key.v, spec->key.n, spec, e) : 0;
    for (size_t i = 0; r == 0 && i < spec->n_rules; i++)
        if (spec->rules[i].unique)
            r = make_index(s, &spec->rules[i].name, 1, spec, e);
    return r;
}
