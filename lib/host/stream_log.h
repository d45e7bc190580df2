/* A tenant's logs/tenants/<tenant>/stream.jsonl, which the broker writes: what its streams are billed by, interval by interval. It
 * is closed when it is large, and what was closed long ago is summed by day (stream_log_files.h), so that it does not grow for
 * ever. To who reads, all of that is one journal; an interval that was summed is its whole UTC day's, at its beginning. */
#ifndef SIMBDP_HOST_STREAM_LOG_H
#define SIMBDP_HOST_STREAM_LOG_H

#include <stdbool.h>
#include <stdint.h>

struct stream_interval {
    char line[20]; /* the line's number; empty of a day's sum */
    int64_t at_ms;
    char stream[64], app[64];      /* app: empty where it is not of an app */
    bool of_app;                   /* of an app: acknowledged; of a stream: published */
    int64_t messages, bytes, rows; /* bytes and rows of an app */
    int64_t refused, dead;         /* refused: requests of the stream; errors: messages of an app */
    double ms;                     /* the sum over all messages */
};

/* Calls fn with 1 for each interval. After a kill the broker may write an interval again, with the same number
 * (programs/broker/store/tally.h): fn is then called with -1 for the earlier one, which no longer counts. 0, also when there is no
 * log, or -errno. Blocks. */
int stream_log_read(int home_fd, const char *tenant, void (*fn)(void *arg, const struct stream_interval *v, int sign), void *arg);

/* The same of intervals from `since` on and before `until` (wall clock, ms). Costs as many lines as were written in that time, and
 * in the hour around it: the log is in order of time, but for what a step of the clock made of it. 1: lines of an hour behind that
 * were read, and none of it comes any more; 0: it ends before; -ECANCELED: fn returned false; or -errno. */
int stream_log_between(int home_fd, const char *tenant, int64_t since_ms, int64_t until_ms,
                       bool (*fn)(void *arg, const struct stream_interval *v, int sign), void *arg);
/* Sums the files that were closed and written last before `before_ms` (wall clock), in order, and removes those that were summed
 * more than 10 minutes ago: until then somebody may read them. How many were summed, or -errno; killed at any place, it is done
 * again to the same effect. For one caller at a time. Blocks for as long as it takes to read them. */
int stream_log_sum(int home_fd, const char *tenant, int64_t before_ms);

#endif
