/* What the ledger has for moves of tenants. Apart from the rest of it: moves are rare. */
#ifndef SIMBDP_BATCHMGR_LEDGER_MOVES_H
#define SIMBDP_BATCHMGR_LEDGER_MOVES_H

#include "ledger.h"

/* The bits of lib/db/tenants.h; 0: no such tenant. */
int ledger_moves(struct ledger *l, const char *tenant);
/* Commits at once. ERR_REFUSED: the ledger does not know the tenant. */
int ledger_set_moves(struct ledger *l, const char *tenant, int set, int clear, struct err *e);
/* Where it went, as it was said (table meta, "moved:TENANT"). The caller frees; NULL: not known. */
char *ledger_moved_to(struct ledger *l, const char *tenant);
/* to NULL: it is here. */
int ledger_set_moved_to(struct ledger *l, const char *tenant, const char *to, struct err *e);

/* Whether it came with documents that another home had ("alone:TENANT"). Lasts. */
bool ledger_is_alone(struct ledger *l, const char *tenant);
int ledger_set_alone(struct ledger *l, const char *tenant, struct err *e);

/* Takes the tenant's rows (files, quality, runs, hand_ins) of the database at HOME/path, a few a transaction, over a connection of
 * its own: for a thread of its own. Rows of an id that is here already are replaced when they are the tenant's. ERR_REFUSED: an id
 * is another tenant's here, or a row there is; ERR_VERSION: it has columns that this version does not know. Nothing is taken then.
 */
int ledger_take_rows(const struct home *h, const char *tenant, const char *path, struct err *e);

#endif
