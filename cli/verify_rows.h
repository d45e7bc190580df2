/* What `mysimbdp verify` finds in MongoDB. */
#ifndef SIMBDP_VERIFY_ROWS_H
#define SIMBDP_VERIFY_ROWS_H

#include "cli.h"
#include "common/map.h"

#include <errno.h>

struct verify_rows {
    const struct home *home;
    sqlite3 *db;
    void (*say)(void *arg, const char *what, const char *tenant, const char *file_id, const char *text);
    void *arg;
    int64_t missing, not_compared; /* files whose rows are not all there; collections that could not be looked at */
};

/* Compares the rows of all files that were ingested; waits for MongoDB. Its configuration, or the ledger, cannot be read: negative.
 */
int verify_rows(struct verify_rows *v, struct err *e);

#endif
