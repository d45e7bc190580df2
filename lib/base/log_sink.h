/* Where lines of the log go beside stderr: the host's syslog or journald. Nothing waits: what the receiver does not take at once is
 * counted, and said when it takes something again. Any thread may send; opening is for the main thread, before there are others. */
#ifndef SIMBDP_BASE_LOG_SINK_H
#define SIMBDP_BASE_LOG_SINK_H

#include <stdbool.h>
#include <stdint.h>

/* Of the environment of the platform's programs, which `mysimbdp up` sets: "syslog:PATH" or "journald:PATH". */
#define LOG_SINK_ENV "SIMBDP_LOG"

struct log_record {
    const char *level;                                /* debug, info, warn, error */
    const char *program, *event, *tenant, *run, *msg; /* tenant, run: NULL when there is none */
    int64_t wall_ms;
};

/* spec NULL or "": there is none; the one before is closed. One that cannot be reached now is tried with each record. */
void log_sink_open(const char *spec);
bool log_sink_is_open(void);
/* False: the receiver did not take it; it is counted. */
bool log_sink_send(const struct log_record *r);
/* How many were dropped since this was called last; whoever cannot say so gives them back. */
int64_t log_sink_take_dropped(void);
void log_sink_give_back(int64_t n);

/* For tests: the bytes of a record. The caller frees; *ret_n: how many. */
char *log_sink_syslog(const struct log_record *r, unsigned long *ret_n);
char *log_sink_journal(const struct log_record *r, unsigned long *ret_n);

#endif
