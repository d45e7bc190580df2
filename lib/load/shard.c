/* In the order in which MongoDB wants it: an index that begins with the key, then shardCollection; before 6.0 the database is to be
 * enabled first. The dataset's unique indexes come before: one of them may be that index, and before 5.0 there could be no second
 * one of the same fields. Each may be repeated. config.collections says what is sharded: since 7.3 also of collections that are not
 * (`unsplittable`), and before 5.0 of those that were (`dropped`). */
#include "shard.h"
#include "base/json.h"
#include "base/mem.h"
#include "index.h"
#include "mongo_codes.h"
#include "mongo_uri.h"

#include <stdio.h>
#include <string.h>

enum {
    UNAUTHORIZED = 13,
    ILLEGAL_OPERATION = 20,
    ALREADY_INITIALIZED = 23,
    SHARD_NOT_FOUND = 70,
    CONFLICTING_OPERATION = 117,
    ATLAS_DENIES = 8000,
};

/* As MongoDB takes it: {"station": 1, "_id": "hashed"}. bson_destroy. */
static bson_t *shard_key(const struct spec *spec)
{
    bson_t *key = bson_new();
    for (size_t i = 0; i < spec->shard.n; i++) {
        const char *field = spec_target(spec, spec->shard.v[i]);
        if (spec->hashed && !strcmp(spec->hashed, spec->shard.v[i]))
            bson_append_utf8(key, field, -1, "hashed", -1);
        else
            bson_append_int32(key, field, -1, 1);
    }
    return key;
}

/* Busy servers, and those whose primary changes. */
static bool passes(const bson_error_t *be)
{
    return be->domain != MONGOC_ERROR_SERVER || be->code == SHARD_NOT_FOUND || be->code == CONFLICTING_OPERATION ||
           (mongo_passes(be->code) && be->code != MONGO_OUT_OF_DISK_SPACE);
}

static bool is_denied(const bson_error_t *be)
{
    return (be->domain == MONGOC_ERROR_SERVER && (be->code == UNAUTHORIZED || be->code == ATLAS_DENIES)) ||
           (be->domain == MONGOC_ERROR_CLIENT && be->code == MONGOC_ERROR_CLIENT_AUTHENTICATE);
}

/* 1 and 1.0 are the same direction. */
static bool same_part(const bson_iter_t *a, const bson_iter_t *b)
{
    if (strcmp(bson_iter_key(a), bson_iter_key(b)) != 0)
        return false;
    if (BSON_ITER_HOLDS_UTF8(a) || BSON_ITER_HOLDS_UTF8(b))
        return BSON_ITER_HOLDS_UTF8(a) && BSON_ITER_HOLDS_UTF8(b) && !strcmp(bson_iter_utf8(a, NULL), bson_iter_utf8(b, NULL));
    return BSON_ITER_HOLDS_NUMBER(a) && BSON_ITER_HOLDS_NUMBER(b);
}

static bool same_key(const bson_t *a, const bson_t *b)
{
    bson_iter_t x, y;
    if (!bson_iter_init(&x, a) || !bson_iter_init(&y, b))
        return false;
    for (;;) {
        bool more = bson_iter_next(&x);
        if (more != bson_iter_next(&y))
            return false;
        if (!more || !same_part(&x, &y))
            return !more;
    }
}

enum seen { SEEN_NONE, SEEN_SAME, SEEN_OTHER, SEEN_NOTHING };

/* What config.collections says. SEEN_NOTHING: it cannot be read, *be. */
static enum seen look(mongoc_client_t *c, const char *ns, const bson_t *key, char **ret_other, bson_error_t *be)
{
    mongoc_collection_t *all = mongoc_client_get_collection(c, "config", "collections");
    bson_t *filter = BCON_NEW("_id", BCON_UTF8(ns)), *opts = BCON_NEW("limit", BCON_INT64(1), "singleBatch", BCON_BOOL(true)), has;
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(all, filter, opts, NULL);
    const bson_t *doc;
    bson_iter_t it;
    enum seen seen = SEEN_NONE;
    if (mongoc_cursor_next(cursor, &doc) && !json_get_bool(doc, "dropped", false) && !json_get_bool(doc, "unsplittable", false) &&
        bson_iter_init_find(&it, doc, "key") && json_iter_doc(&it, &has)) {
        seen = same_key(&has, key) ? SEEN_SAME : SEEN_OTHER;
        char *text = bson_as_relaxed_extended_json(&has, NULL);
        *ret_other = xstrdup(text ? text : "?");
        bson_free(text);
    } else if (mongoc_cursor_error(cursor, be)) {
        seen = SEEN_NOTHING;
    }
    mongoc_cursor_destroy(cursor);
    mongoc_collection_destroy(all);
    bson_destroy(filter);
    bson_destroy(opts);
    return seen;
}

/* Whether the collection has an index that begins with the key anyhow. */
static bool has_index(const struct spec *spec)
{
    bool has = spec->shard.n == 1 && !strcmp(spec->shard.v[0], SPEC_ID);
    has |= spec->key.n && spec_shard_allows_unique(spec, &spec->key);
    for (size_t i = 0; i < spec->n_rules; i++)
        has |= spec->rules[i].unique; /* it could not be unique otherwise */
    return has && !spec->hashed;
}

static bool make_indexes(mongoc_client_t *c, const char *database, const char *collection, const struct spec *spec,
                         const bson_t *key, bson_error_t *be)
{
    AUTO_BUF struct buf which = {0};
    mongoc_collection_t *in = mongoc_client_get_collection(c, database, collection);
    bool ok = index_make_on(in, spec, &which, be);
    if (ok && !has_index(spec)) {
        bson_t reply;
        char *name = mongoc_collection_keys_to_index_string(key);
        bson_t *cmd = BCON_NEW("createIndexes", BCON_UTF8(collection), "indexes", "[", "{", "key", BCON_DOCUMENT(key), "name",
                               BCON_UTF8(name), "collation", "{", "locale", BCON_UTF8("simple"), "}", "}", "]");
        ok = mongoc_collection_write_command_with_opts(in, cmd, NULL, &reply, be);
        bson_destroy(&reply);
        bson_destroy(cmd);
        bson_free(name);
    }
    mongoc_collection_destroy(in);
    return ok;
}

static bool shard_once(mongoc_client_t *c, const char *database, const char *ns, const bson_t *key, bson_error_t *be)
{
    bson_t *cmd =
        BCON_NEW("shardCollection", BCON_UTF8(ns), "key", BCON_DOCUMENT(key), "collation", "{", "locale", BCON_UTF8("simple"), "}");
    bson_t *enable = BCON_NEW("enableSharding", BCON_UTF8(database)), reply;
    bool ok = mongoc_client_write_command_with_opts(c, "admin", cmd, NULL, &reply, be);
    bson_destroy(&reply);
    if (!ok && be->domain == MONGOC_ERROR_SERVER && be->code == ILLEGAL_OPERATION) {
        ok = mongoc_client_write_command_with_opts(c, "admin", enable, NULL, &reply, be);
        bson_destroy(&reply);
        if (ok) {
            ok = mongoc_client_write_command_with_opts(c, "admin", cmd, NULL, &reply, be);
            bson_destroy(&reply);
        }
    }
    bson_destroy(enable);
    bson_destroy(cmd);
    return ok;
}

/* 1, 0, or -1: it cannot be told now, *be. */
static int is_router(mongoc_client_t *c, bson_error_t *be)
{
    mongoc_server_description_t *d = mongoc_client_select_server(c, true, NULL, be);
    if (!d)
        return -1;
    int is = mongo_is_router(d);
    mongoc_server_description_destroy(d);
    return is;
}

static enum shard_state failed(const bson_error_t *be, const char *ns, const bson_t *key, char *ret_why, size_t size)
{
    char *text = bson_as_relaxed_extended_json(key, NULL);
    enum shard_state state = is_denied(be)                     ? SHARD_DENIED
                             : passes(be)                      ? SHARD_UNCLEAR
                             : be->code == ALREADY_INITIALIZED ? SHARD_OTHER_KEY
                                                               : SHARD_REFUSED;
    if (state == SHARD_DENIED)
        snprintf(ret_why, size,
                 "the user of the URL may not (%s): give it the role clusterManager, or let an administrator say "
                 "sh.shardCollection(\"%s\", %s)",
                 be->message, ns, text ? text : "?");
    else if (state == SHARD_OTHER_KEY)
        snprintf(ret_why, size, "it is sharded by another key (%s): put that key into `shard`, or use another collection",
                 be->message);
    else
        snprintf(ret_why, size, "%s", be->message);
    bson_free(text);
    return state;
}

static enum shard_state make(mongoc_client_t *c, const char *database, const char *collection, const struct spec *spec,
                             const bson_t *key, bool *ret_made, char *ret_why, size_t size)
{
    bson_error_t be = {0};
    AUTO_FREE char *ns = xasprintf("%s.%s", database, collection), *other = NULL;
    int router = is_router(c, &be);
    if (router == 0) {
        snprintf(ret_why, size, "the MongoDB is no mongos, so that nothing is sharded there: rows are stored as ever");
        return SHARD_NO_ROUTER;
    }
    enum seen seen = router < 0 ? SEEN_NOTHING : look(c, ns, key, &other, &be);
    if (seen == SEEN_SAME)
        return SHARD_DONE;
    if (seen == SEEN_OTHER) {
        snprintf(ret_why, size, "it is sharded by %s already: put that key into `shard`, reshard it, or use another collection",
                 other);
        return SHARD_OTHER_KEY;
    }
    if (router < 0 || (seen == SEEN_NOTHING && !is_denied(&be)))
        return failed(&be, ns, key, ret_why, size);
    /* Who may not look may still be allowed to shard, and is told when the key is another. */
    if (!make_indexes(c, database, collection, spec, key, &be) || !shard_once(c, database, ns, key, &be))
        return failed(&be, ns, key, ret_why, size);
    *ret_made = true;
    return SHARD_DONE;
}

enum shard_state shard_make(mongoc_client_t *c, const char *database, const char *collection, const struct spec *spec,
                            bool *ret_made, char *ret_why, size_t size)
{
    bson_t *key = shard_key(spec);
    *ret_made = false;
    *ret_why = 0;
    enum shard_state state = make(c, database, collection, spec, key, ret_made, ret_why, size);
    bson_destroy(key);
    return state;
}
