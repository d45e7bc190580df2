/* The URL of a MongoDB, as each program of ours uses it. What exactly once needs is not the URL's to say: every write is
 * acknowledged by a majority and journaled, and reads ask the primary, whatever w, journal, wtimeoutMS and readPreference say there
 * (those of Atlas say w=majority, which a command that said so itself would have twice). All else, such as TLS, is the URL's.
 *
 * mongodb.com/docs/manual/reference/connection-string */
#ifndef SIMBDP_LOAD_MONGO_URI_H
#define SIMBDP_LOAD_MONGO_URI_H

#include <mongoc/mongoc.h>

/* For mongoc_uri_destroy. url NULL: "". select_ms: how long a server is looked for; socket_ms: how long an answer is waited for; 0:
 * the driver's. NULL: ret_why says what is wrong with it. No I/O. */
mongoc_uri_t *mongo_uri(const char *url, int select_ms, int socket_ms, bson_error_t *ret_why);

/* Whether it is one that sends commands on to shards. */
bool mongo_is_router(const mongoc_server_description_t *d);

#endif
