/* What a tenant's files, runs, instances and streams came to in a stretch of time: what `mysimbdp stats` shows, and bills are made
 * of. Of a purged tenant it is what its bill keeps (programs/batchmgr/bill.h). */
#ifndef SIMBDP_QUERY_TENANT_STATS_H
#define SIMBDP_QUERY_TENANT_STATS_H

#include "base/buf.h"
#include "base/err.h"
#include "host/home.h"

#include <sqlite3.h>

struct tenant_stats {
    int64_t files, ingested, rejected, duplicate, quarantined, bytes, file_bytes, rows, rows_rejected, rows_repaired;
    int64_t messages, messages_refused, messages_dead, messages_done;
    double run_s, cpu_s, instance_s, ingestion_s, message_ms; /* message_ms: the sum over all messages that are done */
    int64_t n_timed;                                          /* how many ingestions ingestion_s is the sum of */
    double *seconds;                                          /* of each ingestion, sorted; without those of purged tenants */
    size_t n_seconds;
};

/* Wall clock, ms: from `since` on, before `until`; a purged tenant's, by the UTC days that these lie in. */
struct stretch {
    int64_t since_ms, until_ms;
};

struct stream_days;

/* Reads them over a connection of ledger_view.h; `seconds` only if each_second. days (stream_days.h; may be NULL): what is
 * remembered of streams. go_on (NULL: always) is asked now and then: false ends it with -ETIMEDOUT, as an interrupted statement
 * does; else -EIO with the text. tenant_stats_fini, also on failure. Blocks: it costs the tenant's rows in that stretch, and the
 * lines of its journal that are not remembered. */
int tenant_stats_read(const struct home *h, sqlite3 *db, const char *tenant, const struct stretch *when, struct stream_days *days,
                      bool each_second, bool (*go_on)(void *arg), void *arg, struct tenant_stats *ret, struct err *e);
void tenant_stats_fini(struct tenant_stats *s);

bool tenant_stats_has_any(const struct tenant_stats *s);
/* `seconds` of the sum are unsorted until tenant_stats_sort. */
void tenant_stats_add(struct tenant_stats *sum, const struct tenant_stats *s);
void tenant_stats_sort(struct tenant_stats *s);
double tenant_stats_percentile(const struct tenant_stats *s, double p); /* seconds, nearest rank; NaN: there is none */

/* Adds them as members of the object that is being written; p50_s, p95_s and p99_s only if each_second. */
void tenant_stats_json(struct buf *b, const struct tenant_stats *s, bool each_second);

#endif
