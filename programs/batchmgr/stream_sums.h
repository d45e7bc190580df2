/* Journals of streams (host/stream_log.h): what was closed longer ago than a tenant's logs_days is summed by day, on a thread,
 * looked at once an hour. */
#ifndef SIMBDP_BATCHMGR_STREAM_SUMS_H
#define SIMBDP_BATCHMGR_STREAM_SUMS_H

#include <pthread.h>

struct batchmgr;

void stream_sums_start(struct batchmgr *m);
/* Waits for a file that is being summed. */
void stream_sums_stop(struct batchmgr *m);
/* While it is held, nothing is summed: for who removes a tenant's journal. */
extern pthread_mutex_t stream_sums_lock;

#endif
