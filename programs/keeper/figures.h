/* All figures of the platform for Prometheus, put together of what its programs tell and what is in the ledger. Each program is
 * asked at once, and has a second: one that does not answer has no part in it but mysimbdp_up 0. */
#ifndef SIMBDP_KEEPER_FIGURES_H
#define SIMBDP_KEEPER_FIGURES_H

#include "base/err.h"
#include "conf/conf.h"
#include "host/home.h"

struct figures;

struct figures *figures_new(const struct home *h); /* h is borrowed */
void figures_free(struct figures *f);              /* NULL is fine */

/* Takes the text, part by part, as it was put together: of a thousand tenants it is 5 MB, which nobody should copy. 0 or negative:
 * it is told no more. */
typedef int figures_fn(void *arg, const char *p, size_t n);
/* Tells all of it but for the last line, PROM_END. 0, or what `fn` said. Blocks: a second at most, and as long as it takes to write
 * them. */
int figures_write(struct figures *f, const struct conf *c, bool open_metrics, figures_fn *fn, void *arg);

int figures_to_fd(void *fd, const char *p, size_t n); /* fd: an int's address */

/* Writes them into platform.metrics.textfile, whole or not at all. 0 or negative. Blocks likewise, and for the disk. */
int figures_write_file(struct figures *f, const struct conf *c, struct err *e);

#endif
