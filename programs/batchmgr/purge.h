/* `tenant remove --purge`: everything a tenant has goes, while the platform runs, and after a crash the rest of it.
 *
 *   mark      the ledger says `purging`; nothing of the tenant's is accepted or started from here on, also after a restart
 *   stop      its runs are stopped and its unfinished files given an end, until neither is left
 *   data      simbdp-load drops the collections of its database (not where the tenant brought a server of its own)
 *   files     a thread removes its directories and, a few at a time, its rows of the ledger
 *   forget    its configuration file goes, and with the reload its database secret; the ledger says `purged` and keeps the uid,
 * which is never given to another */
#ifndef SIMBDP_BATCHMGR_PURGE_H
#define SIMBDP_BATCHMGR_PURGE_H

#include "base/err.h"

struct batchmgr;

void purge_start(struct batchmgr *m);
/* Begins; done is called once: when all is gone (e NULL), or at the end of this program. */
int purge_begin(struct batchmgr *m, const char *tenant, void (*done)(void *arg, const struct err *e), void *arg, struct err *e);
/* Goes on where a crash left it (after recovery). */
void purge_resume(struct batchmgr *m);
/* What the purge of this tenant is at, for people; NULL: there is none. Static. */
const char *purge_phase(const struct batchmgr *m, const char *tenant);
/* Whoever waits is told that the next start goes on. */
void purge_put_off(struct batchmgr *m);
void purge_stop(struct batchmgr *m);

#endif
