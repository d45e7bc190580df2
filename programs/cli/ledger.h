/* What verbs read from the ledger. It works while batchmgr writes, and while nothing runs. */
#ifndef SIMBDP_CLI_LEDGER_H
#define SIMBDP_CLI_LEDGER_H

#include "cli.h"

#include <sqlite3.h>

/* Opens the ledger for reading, with the instances of stream apps beside it (streams.instances). NULL: CLI_FAILED after a
 * complaint, or *ret_none, when the home never ran and has no ledger. */
sqlite3 *cli_ledger(struct cli *c, const struct home *h, bool *ret_none);

/* Completes an id. Tables show ids as short as they can be told apart, so a verb takes the beginning of an id, or BEGINNING..END,
 * when only one id matches. *id (not NULL) becomes the whole id, which is kept in `c`; it is left as it is when nothing matches or
 * there is no ledger. 0, or CLI_FAILED after a complaint. */
int cli_whole_id(struct cli *c, const struct home *h, bool run, const char **id);

/* Whether the ledger (NULL: there is none) or the configuration has the tenant; complains if not. */
bool cli_is_tenant(struct cli *c, const struct home *h, sqlite3 *db, const char *tenant);
/* The same with a ledger that is opened for it. tenant NULL: true. */
bool cli_knows_tenant(struct cli *c, const struct home *h, const char *tenant);
/* Opens the home for a verb about a tenant (NULL: about all). 0; or CLI_FAILED, complained and the home closed, also when there is
 * no such tenant. */
int cli_home_of_tenant(struct cli *c, struct home *h, const char *tenant);

#endif
