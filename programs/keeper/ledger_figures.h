/* What is in the ledger and in streammgr's book, as Prometheus reads it: files by state, what was loaded of them, how long they and
 * runs took. Adding it up costs all their rows, so a thread does it, at most a tenth of the time, and whoever asks has the sums
 * that are there. */
#ifndef SIMBDP_KEEPER_LEDGER_FIGURES_H
#define SIMBDP_KEEPER_LEDGER_FIGURES_H

#include "base/buf.h"
#include "host/home.h"

struct ledger_figures;

/* h is borrowed. */
struct ledger_figures *ledger_figures_new(const struct home *h);
void ledger_figures_free(struct ledger_figures *f); /* waits for the thread; NULL is fine */

/* Adds a part (base/prom.h), and has it made anew unless that takes too much of the time; waits wait_ms for it at most. Returns how
 * many series there was no room for. */
size_t ledger_figures_write(struct ledger_figures *f, bool open_metrics, int wait_ms, struct buf *out);

#endif
