/* A configuration comes into force: at start, and when it is read again. */
#ifndef SIMBDP_BATCHMGR_RELOAD_H
#define SIMBDP_BATCHMGR_RELOAD_H

#include "conf/conf.h"

struct batchmgr;

/* Gives the modules what `next` says (TAKE; it was checked before). On failure what was in force stays, and e says why: the host
 * cannot enforce a limit that is asked for, no MongoDB is known, a tenant's directory cannot be made. */
int reload_apply(struct batchmgr *m, struct conf *next, struct err *e);
/* Reads the configuration again and applies it. Blocks for the files. */
int reload(struct batchmgr *m, struct err *e);

#endif
