/* The gateway's own figures, for Prometheus. */
#ifndef SIMBDP_GATEWAY_FIGURES_H
#define SIMBDP_GATEWAY_FIGURES_H

#include "base/buf.h"

/* A request was answered: its status, how long it took, the bytes of its body. */
void figures_count(unsigned status, int64_t us, int64_t bytes);

/* Adds a part (base/prom.h). */
void figures_write(struct buf *out, bool open_metrics);

#endif
