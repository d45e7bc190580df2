#include "server.h"

#include "base/json.h"
#include "base/mem.h"
#include "load/mongo_uri.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SELECTION_MS = 15000, SOCKET_MS = 600000, ID_SHOWN = 120 };

int server_error(const bson_error_t *be, struct err *e, const char *fmt, ...)
{
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(e, ERR_DATABASE, "%s: %s", what, be->message);
}

mongoc_client_t *server_connect(struct err *e)
{
    const char *url = getenv("MONGO_URL");
    bson_error_t be = {0};
    mongoc_uri_t *uri = mongo_uri(url, SELECTION_MS, SOCKET_MS, &be);
    if (!uri) {
        err_set(e, ERR_CONFIG, "the URL of MongoDB is %s",
                url ? "none: it begins with mongodb:// or mongodb+srv://, and of user and "
                      "password only letters and digits stand there as they are (others as %XX)"
                    : "not set (MONGO_URL)");
        return NULL;
    }
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_SERVERSELECTIONTRYONCE, false);
    mongoc_client_t *c = mongoc_client_new_from_uri(uri);
    mongoc_uri_destroy(uri);
    if (!c) {
        err_set(e, ERR_CONFIG, "the URL of MongoDB cannot be used");
        return NULL;
    }
    mongoc_client_set_error_api(c, MONGOC_ERROR_API_VERSION_2);
    mongoc_client_set_appname(c, "mysimbdp-mongo");
    bson_t *ping = BCON_NEW("ping", BCON_INT32(1));
    /* Also has it prove who it is: a ping alone is answered to strangers. */
    bool ok = mongoc_client_command_simple(c, "admin", ping, NULL, NULL, &be);
    bson_destroy(ping);
    if (ok)
        return c;
    server_error(&be, e, "MongoDB does not answer");
    mongoc_client_destroy(c);
    return NULL;
}

int server_collection(mongoc_client_t *c, const char *database, const char *collection, bson_t *ret, struct err *e)
{
    bson_error_t be = {0};
    const bson_t *doc;
    int r = 0;
    mongoc_database_t *d = mongoc_client_get_database(c, database);
    bson_t *opts = BCON_NEW("filter", "{", "name", BCON_UTF8(collection), "}");
    mongoc_cursor_t *cursor = mongoc_database_find_collections_with_opts(d, opts);
    while (r == 0 && mongoc_cursor_next(cursor, &doc))
        if (!strcmp(json_get_str(doc, "name", ""), collection)) {
            bson_copy_to(doc, ret);
            r = 1;
        }
    if (r == 0 && mongoc_cursor_error(cursor, &be))
        r = server_error(&be, e, "cannot ask for the collections of %s", database);
    mongoc_cursor_destroy(cursor);
    mongoc_database_destroy(d);
    bson_destroy(opts);
    return r;
}

char *server_id_text(const bson_t *doc)
{
    AUTO_BSON_DOC bson_t id = BSON_INITIALIZER;
    bson_iter_t it;
    if (!bson_iter_init_find(&it, doc, "_id") || !bson_append_iter(&id, "_id", 3, &it))
        return xstrdup("?");
    AUTO_BUF struct buf b = {0};
    json_from_bson(&id, &b);
    return xasprintf("%.*s%s", ID_SHOWN, b.n ? b.p : "?", b.n > ID_SHOWN ? "..." : "");
}
