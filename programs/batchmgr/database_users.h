/* The tenants' own users on a MongoDB that has users, and the first administrator of one that is ours. */
#ifndef SIMBDP_BATCHMGR_DATABASE_USERS_H
#define SIMBDP_BATCHMGR_DATABASE_USERS_H

#include <mongoc/mongoc.h>
#include <stdbool.h>

struct health_user { /* a tenant's own MongoDB user, to be made or updated */
    char *name, *password, *database;
};

/* Makes the user, or updates it where it exists: it may read and write its own database, nothing else. Blocks. */
bool database_user_make(mongoc_client_t *c, const struct health_user *u, bson_error_t *be);
/* Makes the first user of a fresh `mongod --auth`, through its localhost exception. Once there is a user the server refuses it,
 * which does no harm. `c` is connected as nobody. Blocks. */
void database_user_make_admin(mongoc_client_t *c, const char *name, const char *password);

#endif
