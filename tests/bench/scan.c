/* Reads a whole collection by a cursor, as a C program does that looks at each document and keeps none.
 *   scan URL DATABASE COLLECTION [FILTER [OPTIONS]]     JSON, as find takes them; prints {"rows":N,"bytes":N,"s":SECONDS} */
#include "base/clk.h"

#include <mongoc/mongoc.h>
#include <stdio.h>
#include <string.h>

static bson_t *parsed(const char *json)
{
    bson_error_t be;
    bson_t *b = bson_new_from_json((const uint8_t *)json, (ssize_t)strlen(json), &be);
    if (!b)
        fprintf(stderr, "scan: %s: %s\n", json, be.message);
    return b;
}

int main(int argc, char **argv)
{
    bson_error_t be = {0};
    const bson_t *doc;
    int64_t n = 0, bytes = 0;
    if (argc < 4 || argc > 6)
        return fprintf(stderr, "usage: scan URL DATABASE COLLECTION [FILTER [OPTIONS]]\n"), 2;
    mongoc_init();
    bson_t *filter = parsed(argc > 4 ? argv[4] : "{}"), *opts = parsed(argc > 5 ? argv[5] : "{}");
    mongoc_client_t *client = mongoc_client_new(argv[1]);
    if (!filter || !opts || !client)
        return 2;
    mongoc_collection_t *collection = mongoc_client_get_collection(client, argv[2], argv[3]);
    int64_t start = clk_now_ms();
    mongoc_cursor_t *c = mongoc_collection_find_with_opts(collection, filter, opts, NULL);
    while (mongoc_cursor_next(c, &doc)) {
        n++;
        bytes += doc->len;
    }
    double s = (double)(clk_now_ms() - start) / 1000;
    bool failed = mongoc_cursor_error(c, &be);
    if (failed)
        fprintf(stderr, "scan: %s\n", be.message);
    else
        printf("{\"rows\":%lld,\"bytes\":%lld,\"s\":%.3f}\n", (long long)n, (long long)bytes, s);
    mongoc_cursor_destroy(c);
    mongoc_collection_destroy(collection);
    mongoc_client_destroy(client);
    bson_destroy(filter);
    bson_destroy(opts);
    mongoc_cleanup();
    return failed;
}
