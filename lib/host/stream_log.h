/* The intervals of a tenant's logs/tenants/<tenant>/stream.jsonl, which the broker writes: what its streams are billed by. */
#ifndef SIMBDP_HOST_STREAM_LOG_H
#define SIMBDP_HOST_STREAM_LOG_H

#include <stdbool.h>
#include <stdint.h>

struct stream_interval {
    char line[20]; /* its number */
    int64_t at_ms;
    char stream[64], app[64];      /* app: empty where it is not of an app */
    bool of_app;                   /* what an app acknowledged; else what was published */
    int64_t messages, bytes, rows; /* bytes and rows: of an app */
    int64_t refused, dead;         /* requests of the stream; messages of an app */
    double ms;                     /* all messages together took so long */
};

/* fn is called with 1 for each, and with -1 for one that counts no more: the next line of the same app has its number, and is in
 * its place (programs/broker/tally.h). 0, also where there is none, or -errno. Blocks. */
int stream_log_read(int home_fd, const char *tenant, void (*fn)(void *arg, const struct stream_interval *v, int sign), void *arg);

#endif
