/* Uploads that may be cut and gone on with (tus.c). Each is a file of the spool and a description beside it, ID.json, so that a
 * gateway that is started again knows them. They expire. */
#ifndef SIMBDP_GATEWAY_RESUMABLE_H
#define SIMBDP_GATEWAY_RESUMABLE_H

#include "base/err.h"
#include "base/json.h"
#include "host/home.h"
#include "spool.h"

struct resumable {
    char id[ID_SIZE];
    char *account, *tenant, *dataset, *name, *app; /* app: NULL: by rules */
    char *trace;                                   /* as handover's; "": none */
    bool force;
    int64_t length, offset;  /* bytes; `offset` of them are durable */
    int64_t expires_ms;      /* wall clock */
    struct spool_file *file; /* somebody appends to it, or hands it in; NULL */
    bool taken;              /* batchmgr's answer is known: whoever did not see it may ask again, if there is room */
    bool complete;           /* it was offered to batchmgr; that its answer reached the client is not known */
};

struct resumables;

/* Reads those that are there. What does not fit together is removed, and logged. */
struct resumables *resumables_open(struct spool *s);
void resumables_close(struct resumables *all); /* NULL is fine */

/* Makes one, durably, from `what` (strings are copied; id, offset and expiry are set). Blocks for a sync. */
int resumable_new(struct resumables *all, const struct resumable *what, struct resumable **ret, struct err *e);
/* NULL: there is none of this tenant with this id. */
struct resumable *resumable_find(struct resumables *all, const char *tenant, const char *id);
/* Of an account. One more is asked for: that which was taken first is forgotten before it is one too many. */
size_t resumable_count(const struct resumables *all, const char *account);
void resumable_make_room(struct resumables *all, const char *account, size_t most);
/* It was appended to, durably: it has `offset` bytes and a new day. */
void resumable_advance(struct resumable *r, int64_t offset);
/* All of it came: from here on it is as from spool_create, and its description has a new day. 0, or negative. */
int resumable_complete(struct resumables *all, struct resumable *r, struct err *e);
/* Removes description and file (unless that was completed). Not while somebody appends. */
void resumable_remove(struct resumables *all, struct resumable *r);
/* Removes those that have expired. */
void resumables_sweep(struct resumables *all);

#endif
