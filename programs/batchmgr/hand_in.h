/* Files that the gateway received: it hands in what lies complete in its spool (spool.h), and from the answer on they are ours.
 *
 * The row comes first, then the claim out of the spool (claim.h), as with an upload. In the same transaction the ledger keeps by
 * which key the file was handed in: the client's idempotency key, or where it has none, the name in the spool. Who asks again with
 * the same key, since the answer was lost, is told the same file for HAND_IN_KEPT_MS, over restarts, too. */
#ifndef SIMBDP_BATCHMGR_HAND_IN_H
#define SIMBDP_BATCHMGR_HAND_IN_H

#include "uploads.h"

enum { HAND_IN_MAX_KEY = 255 /* bytes */, HAND_IN_KEPT_MS = 24 * 3600 * 1000 };

struct hand_in {
    struct upload_request file; /* its size is known */
    const char *spool;          /* name in the spool: an id (home_new_id) */
    const char *key;            /* of the tenant's client; NULL: none */
    const char *account;        /* who sent it, for the log */
};

/* One of the two is called, once, where hand_in gives 0; maybe before it does. */
struct hand_in_ops {
    /* Its row is durable. again: it was before; what lay in the spool was removed. */
    void (*done)(void *arg, const char *file_id, bool again);
    void (*dropped)(void *arg); /* batchmgr ended before */
};

void hand_in_start(struct batchmgr *m);
void hand_in_stop(struct batchmgr *m); /* after the ledger is closed */

/* ops are borrowed. ERR_REFUSED, and what lies in the spool is the gateway's still: reasons of uploads_check, `spool` (spool.h; or
 * it is handed in already, for another tenant or by another key), `idempotency_key` (too long, or it was used for another file). */
int hand_in(struct batchmgr *m, const struct hand_in *h, const struct hand_in_ops *ops, void *arg, struct err *e);

/* Forgets keys that are older. Called with every rescan of staging. */
void hand_in_forget(struct batchmgr *m);

#endif
