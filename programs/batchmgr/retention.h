/* What is kept, and how long: archived files (files_days), logs of runs (logs_days), documents (documents_days).
 *
 * Bytes and logs go a few at a time, so that the loop is never held up; documents are deleted by simbdp-load, by the prefixes that
 * the ledger has of what was stored. All of it may be done twice: the ledger is told afterwards. */
#ifndef SIMBDP_BATCHMGR_RETENTION_H
#define SIMBDP_BATCHMGR_RETENTION_H

#include <stdint.h>

struct batchmgr;

void retention_start(struct batchmgr *m);
/* Looks whether something is due; also called with every rescan of staging. */
void retention_kick(struct batchmgr *m);
/* The clock that it goes by: the calendar, but for leaps ahead (host/retention_clock.h). */
int64_t retention_now_ms(struct batchmgr *m);
/* How far the calendar clock is ahead of the time that passed, and is not believed; `mysimbdp clock trust` says that it is right.
 */
int64_t retention_ahead_s(struct batchmgr *m);
void retention_trust_clock(struct batchmgr *m);
void retention_stop(struct batchmgr *m);

#endif
