/* Whether a MongoDB that is not the home's own is the one that a tenant had there: one that was emptied, restored to an earlier
 * time, or is another one at the same address answers as well as any, and the ledger goes on saying ingested.
 *
 * The platform writes a document {_id: id drawn by the home, n: counted up now and then} into the collection IDENTS_COLLECTION of
 * the tenant's database, with the tenant's own user, and never again once it did. state/mongo.marks says the same, by tenant and
 * place (hosts and database; a user or a password that changes makes no other):
 *   {"marks":[{"tenant":"acme","where":"host:27017/acme","id":"...","n":3,"lost":null}]}
 * `n` is written there when the server has acknowledged it (majority, journaled), so it is behind the document or equal. A home
 * that finds no document of its id, or a smaller n, does not dispatch for that tenant; it goes on by itself when the document is
 * there again. `verify --accept` removes the file, with `--tenant` one mark.
 *
 * Asked on the threads of database_health.c; what the loop calls never waits for a server. */
#ifndef SIMBDP_BATCHMGR_DATABASE_IDENTITY_H
#define SIMBDP_BATCHMGR_DATABASE_IDENTITY_H

#include "host/home.h"

#include <mongoc/mongoc.h>

#define IDENTS_COLLECTION "simbdp_home"

struct identities;

struct identities *identities_new(const struct home *h); /* borrows h; blocks for a small file */
void identities_free(struct identities *x);              /* after the threads ended; NULL is fine */

/* ---- the loop's ---- */

struct identity_of {
    const char *tenant, *server, *url, *database; /* server: the URL that database_health.c pings; url: the tenant's own */
    bool alone; /* it came from another home, which had these documents: marks of others are removed there */
};
/* From now on the tenant's database is looked at. True: it is to be looked at now. */
bool identities_want(struct identities *x, const struct identity_of *of);
/* It is not any more; `forget` also what is known of it. */
void identities_drop(struct identities *x, const char *tenant, bool forget);
/* What the tenant's place has now is what it had: another mark is made there. False: nothing was wrong with it. Blocks for a small
 * file. */
bool identities_accept(struct identities *x, const char *tenant);
/* Whether nobody has looked yet, or could not tell and will look again: not for one that is known to be wrong. */
bool identities_are_looking(struct identities *x, const char *tenant);
/* NULL: the tenant may use it. Else why not yet, for people; the caller frees. */
char *identities_why_not(struct identities *x, const char *tenant);

/* ---- of the server's thread ---- */

/* Looks at those of the server that are due, for about a second. connect: for a URL of its own, NULL when it is none. True:
 * something is other than it was. Blocks. */
bool identities_look(struct identities *x, const char *server, mongoc_client_t *c, mongoc_client_t *(*connect)(const char *url));
/* The server does not answer: what it is when it does again is to be seen first. */
void identities_down(struct identities *x, const char *server);

#endif
