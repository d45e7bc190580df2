/* The floor below which intake and dispatch pause: platform.min_free_bytes and min_free_inodes, in each directory that is written
 * to. Looked at once a second; it goes on by itself. */
#ifndef SIMBDP_BATCHMGR_DISK_H
#define SIMBDP_BATCHMGR_DISK_H

#include <stdbool.h>

struct batchmgr;

/* Sets m->disk_low, and logs when it is another than before. Blocks for a statvfs of each. True when there is space again. */
bool disk_look(struct batchmgr *m);

#endif
