/* What each tenant came to: the month's bill so far, files refused lately, CPU time of runs that ended in the last minutes. */
#ifndef SIMBDP_KEEPER_TENANT_SUMS_H
#define SIMBDP_KEEPER_TENANT_SUMS_H

#include "query/tenant_stats.h"

struct tenant_sum {
    char *tenant;
    double ended_cpu_s;                /* of RUNS_USE_WINDOW_MS (runs_use.h) */
    int64_t refused_hour, refused_day; /* files that were rejected or quarantined, of those received since then */
    struct tenant_stats bill;          /* this UTC month; no percentiles */
};

struct tenant_sums {
    struct tenant_sum *v;
    size_t n;
    int64_t at_wall_ms; /* 0: never read */
};
void tenant_sums_fini(struct tenant_sums *s);

struct stream_days;

/* Reads them over a connection of ledger_view.h; days remembers what is over (stream_days.h). go_on false ends it: -ETIMEDOUT.
 * Blocks: it costs the rows of this month. 0 or negative. */
int tenant_sums_read(const struct home *h, sqlite3 *db, struct stream_days *days, int64_t now_wall_ms, bool (*go_on)(void *arg),
                     void *arg, struct tenant_sums *ret, struct err *e);

#endif
