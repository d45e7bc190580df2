/* What is exported to a collector of OpenTelemetry's (platform.otlp): traces of files from the tenants' journals, the platform's
 * log from logs/, figures as /metrics has them. simbdp-webhook sends. docs/metrics.md tells what is in it.
 *
 * Nothing waits for a collector: simbdp-webhook keeps a bounded queue for each kind and counts what it drops. How far journals and
 * logs were told is kept in state/otlp.json once simbdp-webhook says what became of it, so what happens while nobody exports is
 * told by the next one, from there on. */
#ifndef SIMBDP_KEEPER_EXPORT_H
#define SIMBDP_KEEPER_EXPORT_H

#include "base/buf.h"
#include "conf/conf.h"
#include "host/home.h"

struct export;

struct export *export_new(const struct home *h); /* h is borrowed */
void export_free(struct export *x);              /* waits a second at most for what is under way; NULL is fine */

/* Another configuration, which stays the caller's. Reads the files that it names. */
void export_set_conf(struct export *x, const struct conf *c);
/* To be called once a second. Blocks as long as reading takes, and where figures are due as figures_write does. */
void export_tick(struct export *x, const struct conf *c);
/* {"on":BOOL,"signals":[{signal,sent,rejected,dropped,waiting,error}]}: items since this process began; error: why they cannot be
 * told now, or null. */
void export_tell(const struct export *x, struct buf *out);

#endif
