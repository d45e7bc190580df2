/* Verbs that list: of the ledger, or of what a program knows. */
#ifndef SIMBDP_CLI_LISTING_H
#define SIMBDP_CLI_LISTING_H

#include "cli.h"
#include "table.h"

#include <sqlite3.h>

/* Column i of the statement is cols[i]. Returns the number of rows. */
int cli_list(struct cli *c, sqlite3_stmt *s, const struct col *cols, size_t n_cols);

/* The same of what a program knows, ordered by the first three columns. CLI_DONE or CLI_FAILED, complained. */
struct cli_source {
    const char *socket_name, *request, *key; /* key: of the array in its answer */
    char *const *offline;                    /* while it does not run: a program and its arguments that print the array */
    const char *what;                        /* what it lists, for an empty one */
};
int cli_list_program(struct cli *c, const struct home *h, const struct cli_source *from, const struct col *cols, size_t n_cols);

/* A whole listing verb: a positional id, options that filter, --since, --limit; newest last. The statement is put together of
 * what was asked for only, so that an index serves it: a listing costs what it shows, not what the ledger holds. */
struct listing {
    const char *select;     /* SELECT ... FROM ... */
    const char *id, *since; /* columns */
    struct {
        const char *option, *condition; /* condition: with ? for the option's value */
    } filters[3];
    const char *const *states;                                   /* what --state may be; ends with NULL */
    const char *what;                                            /* what it lists, for an empty one */
    const char *(*extra)(const char *option, const char *value); /* a condition that is true then and names an index, or NULL */
};
int cli_listing(struct cli *c, const struct listing *l, const struct col *cols, size_t n_cols);

/* A stamp of "2026-01-31", "2026-01-31T12:00:00Z" or "15m", "2h", "7d" ago. */
int cli_since(const char *text, int64_t *ret_wall_ms);

#endif
