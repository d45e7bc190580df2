/* Secrets of a home, derived from keys/master.key: one for each tenant's database, and one for the platform's. */
#ifndef SIMBDP_CONF_MONGO_USERS_H
#define SIMBDP_CONF_MONGO_USERS_H

#include "conf.h"
#include "host/home.h"

/* The secret, as 32 hex digits: keyed BLAKE2b of "<purpose>:<who>". Makes keys/master.key when it is missing. */
#define MONGO_USERS_SECRET_SIZE 33
int mongo_users_secret(const struct home *h, const char *purpose, const char *who, char out[MONGO_USERS_SECRET_SIZE],
                       struct err *e);

/* The platform's user on a MongoDB that the home runs. A tenant's user is this, "_" and the tenant's id. */
#define MONGO_USERS_PLATFORM "simbdp"

/* Writes keys/mongo/users, which the embedded MongoDB reads: a line "USER SECRET DATABASE MAX_BYTES" for each user, which are the
 * platform, with every database, and each tenant, with its own. As root, the server's own group may read the file. */
int mongo_users_write(const struct home *h, const struct conf *c, struct err *e);

/* The URL that opens `database` of the embedded MongoDB ("*": all). Caller frees. */
int mongo_users_url(const struct home *h, int port, const char *who, const char *database, char **ret, struct err *e);

#endif
