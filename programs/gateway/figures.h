/* The gateway's figures, and what batchmgr says of itself, as Prometheus reads them (text format 0.0.4). */
#ifndef SIMBDP_GATEWAY_FIGURES_H
#define SIMBDP_GATEWAY_FIGURES_H

#include "base/buf.h"
#include "base/json.h"

/* A request was answered: its status, how long it took, the bytes of its body. */
void figures_count(unsigned status, int64_t us, int64_t bytes);

/* programs: of the platform, and whether each is there. status: batchmgr's answer; NULL: none. */
void figures_write(struct buf *out, const char *const *programs, const bool *up, size_t n, const bson_t *status);

#endif
