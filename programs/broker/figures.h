/* Streams and their subscriptions, as Prometheus reads them. */
#ifndef SIMBDP_BROKER_FIGURES_H
#define SIMBDP_BROKER_FIGURES_H

#include "broker.h"

/* Adds a part (base/prom.h) with the figures of every stream that is open, and of the broker itself. Returns how many series there
 * was no room for. Reads nothing from the disk. */
size_t figures_write(struct broker *b, struct buf *out, bool open_metrics);

#endif
