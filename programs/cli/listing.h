/* What verbs share that list rows of the ledger, or what a program knows. */
#ifndef SIMBDP_CLI_LISTING_H
#define SIMBDP_CLI_LISTING_H

#include "cli.h"
#include "term/table.h"

#include "query/records.h"

#include <sqlite3.h>

/* Column i of the statement is cols[i]. Returns the number of rows. */
int cli_list(struct cli *c, sqlite3_stmt *s, const struct col *cols, size_t n_cols);

/* Lists what a program knows, ordered by the first three columns. CLI_DONE, or CLI_FAILED after a complaint. */
struct cli_source {
    const char *socket_name, *request, *key; /* the request, and the key of the array in its answer */
    char *const *offline;                    /* prints the array while that program does not run: a program and its arguments */
    const char *what;                        /* what is listed, for the message when there is nothing */
};
int cli_list_program(struct cli *c, const struct home *h, const struct cli_source *from, const struct col *cols, size_t n_cols);

/* A listing verb: a positional id, options that filter, --since, --limit; newest last. The statement contains only the conditions
 * that were asked for, so that an index can serve it: a listing costs what it shows, not what the ledger holds. */
struct listing {
    const struct records *records;
    struct {
        const char *option, *condition; /* the option's name; its condition, with ? for the value. The last one is --state */
    } filters[3];
};
int cli_listing(struct cli *c, const struct listing *l);
/* 0; or CLI_USAGE, complained: there is no such state. */
int cli_check_state(struct cli *c, const struct records *r, const char *state);

/* Lists a JSON array of objects (n bytes), ordered by the first three columns. CLI_DONE, or CLI_FAILED after a complaint. */
int cli_list_array(struct cli *c, const char *what, const char *array, size_t n, const struct col *cols, size_t n_cols);

#endif
