#include "count.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "load/ingest.h"
#include "load/mongo_uri.h"
#include "load/sink.h"

#include <mongoc/mongoc.h>
#include <sodium.h>
#include <stdio.h>

enum { PATIENCE_MS = 3000 };

static void add_one(struct map *counts, const bson_t *doc)
{
    char hex[2 * INGEST_PREFIX + 1];
    const uint8_t *id;
    uint32_t n;
    bson_subtype_t type;
    bson_iter_t it;
    if (!bson_iter_init_find(&it, doc, "_id") || !BSON_ITER_HOLDS_BINARY(&it))
        return;
    bson_iter_binary(&it, &type, &n, &id);
    if (n != SINK_ID_BYTES)
        return;
    sodium_bin2hex(hex, sizeof hex, id, INGEST_PREFIX);
    int64_t *count = map_get(counts, hex);
    if (!count)
        map_put(counts, hex, count = xcalloc(1, sizeof *count));
    ++*count;
}

static void print_counts(struct map *counts)
{
    for (size_t i = 0; i < counts->cap; i++)
        if (counts->slots[i].key) {
            printf("{\"prefix\":\"%s\",\"rows\":%lld}\n", counts->slots[i].key, (long long)*(int64_t *)counts->slots[i].value);
            free(counts->slots[i].value);
        }
}

static void print_end(bool ok, int64_t total, const char *error)
{
    AUTO_BUF struct buf b = {0};
    json_begin(&b, NULL, '{');
    json_bool(&b, "ok", ok);
    json_i64(&b, "total", total);
    json_str(&b, "error", ok ? NULL : error);
    json_end(&b, '}');
    puts(b.p);
}

int count_main(const char *url, const char *database, const char *collection)
{
    bson_error_t be = {0};
    struct map counts = {0};
    int64_t total = 0;
    const bson_t *doc;
    mongoc_uri_t *uri = mongo_uri(url, PATIENCE_MS, 0, &be);
    mongoc_client_t *c = uri ? mongoc_client_new_from_uri(uri) : NULL;
    bool ok = c != NULL;
    if (ok) {
        bson_t all = BSON_INITIALIZER, *opts = BCON_NEW("projection", "{", "_id", BCON_INT32(1), "}");
        mongoc_collection_t *where = mongoc_client_get_collection(c, database, collection);
        mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(where, &all, opts, NULL);
        for (; mongoc_cursor_next(cursor, &doc); total++)
            add_one(&counts, doc);
        ok = !mongoc_cursor_error(cursor, &be);
        mongoc_cursor_destroy(cursor);
        mongoc_collection_destroy(where);
        bson_destroy(opts);
        bson_destroy(&all);
        mongoc_client_destroy(c);
    }
    print_counts(&counts);
    print_end(ok, total, be.message);
    map_fini(&counts);
    if (uri)
        mongoc_uri_destroy(uri);
    return !ok;
}
