/* A tenant on its way to another home, or here from one (programs/cli/tenant_move.c conducts it). What batchmgr adds is that it
 * stands still: while the ledger says that it is held, nothing of it is taken in, started, retried, deleted or filed, and nothing
 * of it is in memory, also after a restart. Rows and bytes are then what they are, and can be copied.
 *
 * Bits of tenants.suspended (lib/db/tenants.h) say so; only move_take_up ends it. */
#ifndef SIMBDP_BATCHMGR_MOVING_H
#define SIMBDP_BATCHMGR_MOVING_H

#include "state.h"

#include "base/err.h"
#include "base/json.h"

struct tenant;
struct ctl_conn;

/* Requests; 0: done, to be answered; 1: answered here, or later; negative.
 * - move_hold {tenant_id}: runs are asked to end with grace, their files go back to the queue; answered when nothing of it moves
 * any more. The tenant stays held, whatever becomes of who asked
 * - move_arrive {tenant_id,suspended,shared} -> {uid}: a tenant that this home has not had is held from its first moment. Again:
 * the same uid. suspended: by command, as it was. shared: its documents are where they were
 * - move_rows {tenant_id,path}: takes the rows of a database that a move brought (relative to the home). Again: the same rows
 * - move_gone {tenant_id,to,shared}: it is another home's from now on
 * - move_take_up {tenant_id}: it is this home's; goes on where it was */
int moving_serve(struct batchmgr *m, struct ctl_conn *c, const char *op, const bson_t *rq, struct err *e);

/* After a reload or at the start: what the ledger says of the tenant. */
void moving_look(struct batchmgr *m, struct tenant *t);
/* Whether nothing of the tenant may be touched. */
bool moving_is_held(struct batchmgr *m, const char *tenant);
/* 0; or a refusal that says where it is, or that it is to be asked again. */
int moving_refuse(struct batchmgr *m, const char *tenant, struct err *e);

void moving_start(struct batchmgr *m);
void moving_stop(struct batchmgr *m);

#endif
