/* staging/.gateway: where the gateway puts files that came by HTTP, until it hands them in (hand_in.h). Its own, mode 0700; without
 * a uid of its own, the platform's. It may have been taken over, so what lies there is trusted as little as what a tenant drops.
 *
 * What no row of the ledger names and nobody has written to for SPOOL_OLD_S is removed: uploads that were given up. Of one that may
 * be gone on with, all is kept as long as its description holds (SPOOL_RESUMABLE_S), also when it is complete and was not handed
 * in.
 */
#ifndef SIMBDP_BATCHMGR_SPOOL_H
#define SIMBDP_BATCHMGR_SPOOL_H

#include "model.h"

#include "base/err.h"
#include "host/spool_layout.h"

#include <sys/stat.h>

struct batchmgr;

/* Makes the directory and gives it to the gateway. Where that fails the log says why, and nothing can be handed in. */
void spool_start(struct batchmgr *m);
void spool_stop(struct batchmgr *m);
/* Begins to remove what is old, a few names a turn of the loop; nothing where that goes on already. */
void spool_sweep(struct batchmgr *m);

/* Whether `name` is what may be handed in: a whole file of the gateway's with one name, of `size` bytes, that nobody writes to.
 * Only as far as it is so now: claim.h looks again when nobody can change it any more. 0, or ERR_REFUSED with the reason `spool`.
 */
int spool_check(struct batchmgr *m, const char *name, int64_t size, struct err *e);
void spool_remove(struct batchmgr *m, const char *name);

/* The file came by the spool. */
bool spool_brought(const struct file *f);
/* Whether such a file is the gateway's, or (once it is claimed) the platform's. */
bool spool_may_hold(struct batchmgr *m, const struct stat *st);

#endif
