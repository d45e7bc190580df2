/* Old points, and what nothing needs any more. */
#ifndef SIMBDP_BACKUP_PRUNE_H
#define SIMBDP_BACKUP_PRUNE_H

#include "pieces/store.h"

/* Removes all points but the newest `keep` (1 or more), then all pieces that no point names. Where a point that stays cannot be
 * read nothing is removed. Killed anywhere, it leaves points that are whole; the next call goes on. Blocks. */
int prune(struct store *s, int64_t keep, int64_t *ret_points, int64_t *ret_pieces, struct err *e);

#endif
