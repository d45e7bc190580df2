/* A trace for each file, from the tenants' journals (host/tenant_events.h, the batch one), which are followed: a span for the file
 * from receipt to verdict, and below it `inspect`, `queue` and one for each run and load. Whoever watches the same file finds the
 * same trace: its id is made of the file's. What happened while nobody followed is not told. */
#ifndef SIMBDP_KEEPER_TRACES_H
#define SIMBDP_KEEPER_TRACES_H

#include "host/home.h"

#include <stddef.h>

struct traces;

struct traces *traces_new(const struct home *h);
void traces_free(struct traces *t); /* NULL is fine */

/* Reads what was added (no more than a MiB; the rest next time) and gives each span to fn, as a JSON object of OTLP. To be called
 * once a second; the first call only finds out where the journals end. */
typedef void traces_span_fn(void *arg, const char *json);
void traces_follow(struct traces *t, traces_span_fn *fn, void *arg);

#endif
