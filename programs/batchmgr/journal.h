/* Tells tenants of their files and runs: lines of logs/tenants/<tenant>/events.batch.jsonl (lib/host/tenant_events.h), written once
 * the ledger has the row that they are about. A crash between these two loses an event, unless it is a verdict of a file that was
 * not filed away yet: that is told again. */
#ifndef SIMBDP_BATCHMGR_JOURNAL_H
#define SIMBDP_BATCHMGR_JOURNAL_H

struct batchmgr;

/* Behind ledger_open. */
void journal_start(struct batchmgr *m);
void journal_stop(struct batchmgr *m); /* behind ledger_close */

#endif
