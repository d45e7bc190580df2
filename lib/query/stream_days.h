/* What a tenant's streams came to, from logs/tenants/<tenant>/stream.jsonl (host/stream_log.h). A line is written every 5 s for
 * each stream and app, so a month can take longer to read than a question may. So the sums of whole UTC days that are over are
 * remembered: who asks again goes on behind the day that was read last. */
#ifndef SIMBDP_QUERY_STREAM_DAYS_H
#define SIMBDP_QUERY_STREAM_DAYS_H

#include "tenant_stats.h"

struct stream_days;

struct stream_days *stream_days_new(void);
void stream_days_free(struct stream_days *d); /* NULL is fine */

/* Adds what is of that stretch. d NULL: nothing is remembered. go_on as of tenant_stats_read: -ETIMEDOUT; -EIO with the text.
 * Blocks. */
int stream_days_add(struct stream_days *d, const struct home *h, const char *tenant, const struct stretch *when,
                    bool (*go_on)(void *arg), void *arg, struct tenant_stats *f, struct err *e);

#endif
