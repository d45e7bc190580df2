/* The broker's log (state/broker), copied while it is written to. */
#ifndef SIMBDP_BACKUP_SEGMENTS_H
#define SIMBDP_BACKUP_SEGMENTS_H

#include "pieces/copy.h"

/* Puts the log as it is at one moment during the call: with all that was confirmed before the call. Damage that the log has is
 * copied and noted. Blocks; holds nobody up. */
int segments_copy(struct copying *k, struct err *e);

#endif
