/* The tenants' databases: on which MongoDB each is, as which user its runs go there, and whether it may be used now. */
#ifndef SIMBDP_BATCHMGR_DATABASES_H
#define SIMBDP_BATCHMGR_DATABASES_H

#include "tenants.h"

struct databases;

/* on_change: a database came up or went down, or a check that was asked for was answered. */
struct databases *databases_new(struct batchmgr *m, void (*on_change)(struct batchmgr *m));
void databases_free(struct databases *d); /* waits for its threads, two seconds at most; NULL is fine */

/* Where the platform's MongoDB is by this configuration: `mongo_url`, else the environment's MONGO_URL, else the one that
 * `mysimbdp up` runs and names in state/mongo.json. Blocks for a small file. */
int databases_find(struct databases *d, const struct conf *c, struct err *e);
/* The tenant is on this server from now on. After databases_find. */
void databases_add_tenant(struct databases *d, struct tenant *t, const struct conf_tenant *c);
/* The configuration in force is another: users are made, and every tenant is looked at. */
void databases_begin(struct databases *d);

/* Its runs may start, or may not any more: it was suspended or resumed, or its database is another thing than it was. */
void databases_let_tenant(struct databases *d, struct tenant *t);
/* Whether the server of the tenant's answers. */
bool databases_serve(const struct tenant *t);
/* Whether the platform's own answers; and if not, why. */
bool databases_is_up(struct databases *d, char *ret_why, int why_size);
/* `verify --accept --tenant`: what the tenant's place has now is what it had. ERR_REFUSED: nothing is wrong with its database. */
int databases_accept(struct databases *d, const char *tenant, struct err *e);
/* It is held, or taken up (moving.h). */
void databases_moved(struct databases *d, struct tenant *t);
/* The tenant is being removed. */
void databases_forget(struct databases *d, const char *tenant);

#endif
