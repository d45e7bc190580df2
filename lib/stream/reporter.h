/* Tells the platform's monitor what an instance does (docs/reports.md): how many messages it settled, how long they took, what went
 * wrong. Counters since the begin, once in SIMBDP_REPORT_INTERVAL_S; one that is lost costs nothing. Never blocks; where no monitor
 * is reachable nothing is kept. One thread. */
#ifndef SIMBDP_STREAM_REPORTER_H
#define SIMBDP_STREAM_REPORTER_H

#include "base/err.h"

#include <stdint.h>

struct reporter;

/* From the environment: ZMQ_MONITOR_ENDPOINT, SIMBDP_TENANT_ID, SIMBDP_APP, SIMBDP_INSTANCE_ID, SIMBDP_REPORT_INTERVAL_S, and on
 * tcp SIMBDP_MONITOR_SERVER_KEY, SIMBDP_CURVE_PUBLIC_KEY, SIMBDP_CURVE_SECRET_KEY. NULL: there is no monitor to tell, or its
 * endpoint is none; all calls below take that. */
struct reporter *reporter_open(void);
void reporter_close(struct reporter *r); /* with a last report */

/* n messages of so many bytes took busy_us together. Counts, and no more. */
void reporter_done(struct reporter *r, uint64_t n, uint64_t bytes, int64_t busy_us);
/* Something went wrong with a message; `what` is for people, cut when long. */
void reporter_error(struct reporter *r, const char *what);
/* Sends what there is when it is time. now_us: of clk_now_us. Returns when to call it next, also when nothing happens. */
int64_t reporter_tick(struct reporter *r, int64_t now_us);

#endif
