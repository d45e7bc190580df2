/* What verbs share that list rows of the ledger, or what a program knows. */
#ifndef SIMBDP_CLI_LISTING_H
#define SIMBDP_CLI_LISTING_H

#include "cli.h"
#include "table.h"

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
    const char *select;     /* SELECT ... FROM ... */
    const char *id, *since; /* columns */
    struct {
        const char *option, *condition; /* the option's name; its condition, with ? for the value */
    } filters[3];
    const char *const *states; /* the values that --state may have; ends with NULL */
    const char *what;          /* what is listed, for the message when there is nothing */
    /* A condition to add for an option's value: it holds for all rows of that value, and lets SQLite use an index. Or NULL. */
    const char *(*extra)(const char *option, const char *value);
};
int cli_listing(struct cli *c, const struct listing *l, const struct col *cols, size_t n_cols);

/* Lists a JSON array of objects (n bytes), ordered by the first three columns. CLI_DONE, or CLI_FAILED after a complaint. */
int cli_list_array(struct cli *c, const char *what, const char *array, size_t n, const struct col *cols, size_t n_cols);

/* Parses "2026-01-31", "2026-01-31T12:00:00Z", or how long ago: "15m", "2h", "7d". */
int cli_since(const char *text, int64_t *ret_wall_ms);
/* The same of what is to come: "7d" from now. */
int cli_until(const char *text, int64_t *ret_wall_ms);

#endif
