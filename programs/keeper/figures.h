/* All figures of the platform for Prometheus, put together of what its programs tell and what is in the ledger. Each program is
 * asked at once, and has a second: one that does not answer has no part in it but mysimbdp_up 0. */
#ifndef SIMBDP_KEEPER_FIGURES_H
#define SIMBDP_KEEPER_FIGURES_H

#include "base/buf.h"
#include "base/err.h"
#include "conf/conf.h"
#include "host/home.h"

struct figures;

struct figures *figures_new(const struct home *h); /* h is borrowed */
void figures_free(struct figures *f);              /* NULL is fine */

/* Adds them; the last line, PROM_END, is left to the caller. Blocks: a second at most, and as long as it takes to write them. */
void figures_write(struct figures *f, const struct conf *c, bool open_metrics, struct buf *out);

/* Writes them into platform.metrics.textfile, whole or not at all. 0 or negative. Blocks likewise, and for the disk. */
int figures_write_file(struct figures *f, const struct conf *c, struct err *e);

#endif
