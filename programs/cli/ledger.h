/* What verbs read of the ledger: also while batchmgr writes it, and while nothing runs. */
#ifndef SIMBDP_CLI_LEDGER_H
#define SIMBDP_CLI_LEDGER_H

#include "cli.h"

#include <sqlite3.h>

/* The ledger, for reading, with the instances of stream apps beside it (streams.instances). NULL with CLI_FAILED complained; a home
 * that never ran has no ledger and *ret_none. */
sqlite3 *cli_ledger(struct cli *c, const struct home *h, bool *ret_none);

/* A table shows ids as short as they can be told apart, so the beginning of one, or BEGINNING..END, is as good as all of it, if it
 * is that of one only. *id (not NULL) becomes the whole one, which is kept in `c`; it stays as it is where there is none, or no
 * ledger. 0, or CLI_FAILED with a complaint. */
int cli_whole_id(struct cli *c, const struct home *h, bool run, const char **id);

/* Whether the ledger (NULL: there is none) or the configuration knows it; complained. The second opens the ledger by itself, and
 * takes NULL for no tenant, which is right. */
bool cli_is_tenant(struct cli *c, const struct home *h, sqlite3 *db, const char *tenant);
bool cli_knows_tenant(struct cli *c, const struct home *h, const char *tenant);

#endif
