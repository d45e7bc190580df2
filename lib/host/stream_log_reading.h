/* Reading lines of a journal of streams, for stream_log.c and stream_log_sum.c. */
#ifndef SIMBDP_HOST_STREAM_LOG_READING_H
#define SIMBDP_HOST_STREAM_LOG_READING_H

#include "stream_log.h"
#include "stream_log_files.h"

#include "base/map.h"

struct reading {
    struct map last; /* by stream and app: struct stream_interval */
    int64_t since_ms, until_ms;
    int64_t end_ms; /* lines from then on need not be read; 0: not known yet */
    bool is_days;   /* what is read are sums */
    bool (*fn)(void *arg, const struct stream_interval *v, int sign);
    void *arg;
};

/* 0; 1: what follows need not be read; -ECANCELED; -errno. */
int stream_log_read_closed(struct reading *k, const struct stream_log_files *f, uint64_t number);
void stream_log_reading_fini(struct reading *k);

#endif
