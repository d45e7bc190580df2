/* What `mysimbdp verify` finds in MongoDB. */
#ifndef SIMBDP_CLI_VERIFY_ROWS_H
#define SIMBDP_CLI_VERIFY_ROWS_H

#include "cli.h"

#include <sqlite3.h>

struct verify_rows {
    const struct home *home;
    sqlite3 *db;
    void (*say)(void *arg, const char *what, const char *tenant, const char *file_id, const char *text);
    /* Reports what cannot be compared, and why. Nothing was found there. */
    void (*note)(void *arg, const char *tenant, const char *text);
    void *arg;
    int64_t missing; /* files whose rows are not all there */
};

/* Compares the rows of all files that were ingested, and of stream apps, with what MongoDB has. Waits for MongoDB. Negative: the
 * configuration or the ledger cannot be read. */
int verify_rows(struct verify_rows *v, struct err *e);

#endif
