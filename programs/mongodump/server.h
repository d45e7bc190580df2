/* The MongoDB at MONGO_URL. Its URL is a secret: no text has it. */
#ifndef SIMBDP_MONGODUMP_SERVER_H
#define SIMBDP_MONGODUMP_SERVER_H

#include "base/buf.h"
#include "base/err.h"

#include <mongoc/mongoc.h>

/* Connects and asks for a sign of life; a server that is starting is waited for. Writes are acknowledged as load/mongo_uri.h says.
 * NULL: e says why. */
mongoc_client_t *server_connect(struct err *e);

/* "WHAT: what the driver says". ERR_DATABASE. */
int server_error(const bson_error_t *be, struct err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The options of a collection and what more listCollections says of it. 1; 0: there is none; or negative. The caller destroys *ret.
 */
int server_collection(mongoc_client_t *c, const char *database, const char *collection, bson_t *ret, struct err *e);

/* A _id as text, for people: cut when it is long. The caller frees. */
char *server_id_text(const bson_t *doc);

#endif
