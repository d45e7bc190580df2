/* What `simbdp-keeper store` does: versions of tenants' apps, and what an operator orders, for the gateway. It starts
 * simbdp-appstore and mysimbdp, so it keeps its rights; the gateway may have been taken over, so each request carries a ticket
 * (lib/accounts/accounts.h): for apps and configuration of who may deploy for that tenant, whose configuration has to allow it
 * (`allow`); for orders of an operator. Requests are JSON objects (KEEPER_STORE):
 *
 *   {"verb":"check","ticket","tenant_id","app","size"}          may a version of that size come (size: may be absent)?
 *       -> {"ok":true,"max_bytes"}
 *   {"verb":"push",…,"spool","activate":bool}                   staging/.gateway/<spool> becomes a version; it is removed when it
 * was
 *       -> {"ok":true,"job"}                                     looked at. At most STORE_JOBS at once, and one of an app
 *   {"verb":"check_configuration",…}                             may the tenant configure anything? -> {"ok":true,"max_bytes"}
 *   {"verb":"configure",…,"spool","if_match":SHA-256|absent}     staging/.gateway/<spool> becomes the tenant's own configuration
 *       -> {"ok":true,"job"}
 *   {"verb":"suspend"|"resume","ticket","tenant_id","address"}   an operator's: `mysimbdp tenant suspend` does it, and adds it to
 *       -> {"ok":true,"job"}                                     the audit log. At most STORE_JOBS at once, and one of a tenant;
 *                                                                it is carried out also when this program ends
 *   {"verb":"verify_audit","ticket"}                             an operator's: `mysimbdp audit --verify` -> {"ok":true,"job"}
 *   {"verb":"wait","tenant_id","job"}                            -> {"ok":true,"going":true}, or what simbdp-appstore answered,
 * once
 *   {"verb":"activate"|"remove",…,"version"}, {"verb":"rollback",…}   -> {"ok":true,"app","version","previous"}
 *
 * Refusals are {"ok":false,"code","error","retry_after_s"}. */
#ifndef SIMBDP_KEEPER_STORE_H
#define SIMBDP_KEEPER_STORE_H

#include "base/buf.h"
#include "conf/conf.h"
#include "host/home.h"

enum { STORE_JOBS = 4 };

struct store_keeper;

/* h is borrowed. Opens the accounts. */
int store_keeper_new(const struct home *h, struct store_keeper **ret, struct err *e);
void store_keeper_free(struct store_keeper *s); /* NULL is fine. Ends what is going on */
/* Borrowed, until the next. */
void store_keeper_set_conf(struct store_keeper *s, const struct conf *c);
/* Adds the answer to `out`. False: this is no request for it. Blocks for syncs, and up to a second for another change of the app.
 */
bool store_keeper_answer(struct store_keeper *s, const char *text, size_t n, struct buf *out);
/* A child may have ended. */
void store_keeper_reap(struct store_keeper *s);

#endif
