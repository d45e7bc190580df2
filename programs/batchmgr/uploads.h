/* Uploads: a client asks for a place in staging/.incoming, writes there, and commits. */
#ifndef SIMBDP_BATCHMGR_UPLOADS_H
#define SIMBDP_BATCHMGR_UPLOADS_H

#include "base/err.h"
#include "host/home.h"

#include <stdbool.h>
#include <stdint.h>

struct batchmgr;

void uploads_start(struct batchmgr *m);
void uploads_stop(struct batchmgr *m);

struct upload_request {
    const char *tenant, *dataset, *name;
    const char *app;   /* NULL: whichever takes it */
    const char *trace; /* that it is a part of (trace_keep); NULL, or none: of its own */
    int64_t size;      /* -1: not known */
    bool force;
    bool no_name; /* of a check: no file in particular */
};

/* Whether such a file would be taken now, as far as that can be told without it; nothing is kept of it. 0, and how many bytes it
 * may have (-1: any number); or ERR_REFUSED with a reason: not_found (the tenant), suspended, no_dataset, no_app, name, draining,
 * disk_low, ledger, slowed, or one that the ledger would have (admit_check). */
int uploads_check(struct batchmgr *m, const struct upload_request *rq, int64_t *ret_max_bytes, struct err *e);

/* An upload in two steps; `path` (caller frees) is where the client writes. ERR_REFUSED as uploads_check, but for what the ledger
 * is to have a row of. */
int uploads_begin(struct batchmgr *m, const struct upload_request *rq, char ret_id[ID_SIZE], char **ret_path, struct err *e);
/* One of the two is called, once, when uploads_commit gave 0. */
struct uploads_ops {
    void (*done)(void *arg, const char *file_id); /* its row is durable */
    void (*dropped)(void *arg);                   /* batchmgr ended before */
};
/* The client has written everything. ops are borrowed. */
int uploads_commit(struct batchmgr *m, const char *id, const struct uploads_ops *ops, void *arg, struct err *e);
void uploads_abort(struct batchmgr *m, const char *id);
/* Those of one tenant. */
void uploads_abort_all(struct batchmgr *m, const char *tenant);
/* Removes what uploads of an earlier batchmgr left behind. After recovery, which knows the committed ones. */
void uploads_clean(struct batchmgr *m);

#endif
