/* Names that were seen in staging directories and are to be looked at, in turns: so many of each tenant's, so that a flood of one
 * does not hold up another. What is made of a name is the caller's (claim.h). */
#ifndef SIMBDP_BATCHMGR_CANDIDATES_H
#define SIMBDP_BATCHMGR_CANDIDATES_H

#include "tenants.h"

enum {
    CANDIDATES_MAX = 4096,    /* of a tenant; beyond, names are looked for again later (staging_walk.h) */
    CANDIDATES_CLAIMING = 128 /* of a tenant's files whose first row is being committed; beyond, its other names wait */
};

struct candidates_ops {
    /* A name whose turn it is. False: it could not be looked at, for reasons of ours; all directories are walked again later. */
    bool (*claim)(struct batchmgr *m, struct tenant *t, const char *dataset, const char *name);
    /* The tenant has more names than are kept. */
    void (*overflow)(struct batchmgr *m, struct tenant *t);
    /* There is room for a tenant's names again. */
    void (*room)(struct batchmgr *m, struct tenant *t);
};

void candidates_start(struct batchmgr *m, const struct candidates_ops *ops); /* ops are borrowed */
void candidates_stop(struct batchmgr *m);

/* A name was seen; those of files that are still being written are ignored. */
void candidates_saw(struct batchmgr *m, struct tenant *t, const char *dataset, const char *name);
/* The same after ms: it may still have a writer. */
void candidates_saw_later(struct batchmgr *m, const struct tenant *t, const char *dataset, const char *name, int64_t ms);
/* A file's first row was committed: another of the tenant's names may have its turn. */
void candidates_claimed(struct batchmgr *m, struct tenant *t);

/* Names that nobody has to look at: dotfiles and *.part. */
bool candidates_ignore(const char *name);
/* Nothing is taken in now: low disk, drain, a ledger that cannot be written. */
bool candidates_are_paused(struct batchmgr *m);
/* A name was missed since this was asked last; the directories are to be walked. */
bool candidates_take_missed(struct batchmgr *m);
void candidates_missed(struct batchmgr *m);
/* Names of the tenant's wait because too many of its files were refused. */
bool candidates_are_slowed(struct tenant *t);

#endif
