#include "mongo_uri.h"

#include <string.h>

mongoc_uri_t *mongo_uri(const char *url, int select_ms, int socket_ms, bson_error_t *ret_why)
{
    mongoc_uri_t *uri = mongoc_uri_new_with_error(url ? url : "", ret_why);
    if (!uri)
        return NULL;
    mongoc_write_concern_t *writes = mongoc_write_concern_new();
    mongoc_write_concern_set_w(writes, MONGOC_WRITE_CONCERN_W_MAJORITY);
    mongoc_write_concern_set_journal(writes, true);
    mongoc_uri_set_write_concern(uri, writes);
    mongoc_write_concern_destroy(writes);
    mongoc_read_prefs_t *reads = mongoc_read_prefs_new(MONGOC_READ_PRIMARY);
    mongoc_uri_set_read_prefs_t(uri, reads);
    mongoc_read_prefs_destroy(reads);
    if (select_ms)
        mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, select_ms);
    if (socket_ms)
        mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, socket_ms);
    return uri;
}

bool mongo_is_router(const mongoc_server_description_t *d)
{
    const char *type = mongoc_server_description_type(d);
    return !strcmp(type, "Mongos") || !strcmp(type, "LoadBalancer");
}
