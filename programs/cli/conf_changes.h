/* What differs between configurations, in words: `check --diff`, `history diff`, `history rollback`. */
#ifndef SIMBDP_CLI_CONF_CHANGES_H
#define SIMBDP_CLI_CONF_CHANGES_H

#include "cli.h"

/* Reads configuration `number` of the history (0: the newest) as the programs would. *ret_number says which it is. Errors in it go
 * to stderr, and name it instead of a directory. 0: *ret is freed with conf_free; or negative; ERR_CONFIG: it cannot be accepted
 * now. */
int conf_changes_load(const struct home *h, int64_t number, struct conf **ret, int64_t *ret_number, struct err *e);

/* Prints each change, and how many they are. */
void conf_changes_print(const struct cli *c, const struct conf *from, const struct conf *to);

#endif
