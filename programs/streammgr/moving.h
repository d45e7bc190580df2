/* A tenant's part of the book on its way from this home to another, or to it. It is held in the ledger before (programs/batchmgr/
 * moving.h), so its instances end as a suspended tenant's do. */
#ifndef SIMBDP_STREAMMGR_MOVING_H
#define SIMBDP_STREAMMGR_MOVING_H

#include "base/err.h"

struct ctl_conn;
struct streammgr;

/* move_rows: takes the rows of state/moves/TENANT.book.db, which may come from anybody, a part in each turn of the loop. 1: it is
 * answered later. Again: the same rows, again. */
int moving_take_rows(struct streammgr *m, struct ctl_conn *c, const char *tenant, struct err *e);
void moving_stop(void);

#endif
