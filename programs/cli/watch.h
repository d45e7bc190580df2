/* Listings that go on: each row as it changes. */
#ifndef SIMBDP_CLI_WATCH_H
#define SIMBDP_CLI_WATCH_H

#include "cli.h"

#include "query/records.h"

struct watch {
    struct cli *c;
    const struct home *h;
    const struct records *records;
    const char *sql; /* the newest CHANGES_NEWEST rows (query/changes.h) that are wanted */
    const char *const *values;
    int n_values;
};

/* Until nobody reads. CLI_DONE, or CLI_FAILED after a complaint. */
int cli_watch(const struct watch *w);

#endif
