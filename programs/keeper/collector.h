/* What simbdp-webhook has to know of a collector of OpenTelemetry's: its address, who vouches for it, who we are, and what it is
 * shown. */
#ifndef SIMBDP_KEEPER_COLLECTOR_H
#define SIMBDP_KEEPER_COLLECTOR_H

#include "base/buf.h"
#include "base/err.h"
#include "conf/conf.h"
#include "host/home.h"

#include <stdbool.h>

/* The packet that tells it (programs/webhook/main.c) for "traces", "metrics" or "logs"; platform.otlp.url is set. grouped: items
 * wait a second for each other. It may have secrets: the caller overwrites it. 0, or negative: a file of the configuration cannot
 * be read, or may be read by everybody, or has what is no header field; blocks for them. */
int collector_packet(const struct home *h, const struct conf *c, const char *signal, bool grouped, struct buf *out, struct err *e);

#endif
