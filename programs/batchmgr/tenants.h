/* Tenants as batchmgr knows them: those of the configuration, and those that were there before and still have files. */
#ifndef SIMBDP_BATCHMGR_TENANTS_H
#define SIMBDP_BATCHMGR_TENANTS_H

#include "inspect_order.h"
#include "model.h"
#include "refusals.h"
#include "throughput.h"

#include "base/map.h"
#include "conf/conf.h"

struct batchmgr;
struct candidate;
struct health;
struct walk;

struct usage { /* of a tenant, or of one of its datasets */
    int64_t day, files_today, bytes_today;
    int64_t n_live; /* files that are not final */
};

struct tenant {
    char *id;
    bool configured;  /* has a file in conf/tenants */
    bool suspended;   /* by command */
    bool purging;     /* being removed */
    bool purged;      /* nothing of it is left */
    int moves;        /* moving.c: bits of lib/db/tenants.h */
    char *moved_to;   /* NULL: nowhere, or not known */
    bool alone;       /* it came here, and its documents were there: other homes' marks there are void */
    int64_t uid, gid; /* -1: the platform's */
    struct usage usage;
    int64_t n_arrived, n_settled; /* files since this program's begin */
    struct map datasets;          /* name -> struct usage */
    /* journal.c */
    struct throughput throughput;
    /* databases.c */
    struct health *health; /* of the server that its database is on */
    char *mongo_url;       /* what its runs get; NULL: not known yet */
    char *database_why;    /* why a database that answers may not be used yet; NULL: it may */
    /* candidates.c, staging_walk.c, claim.c */
    struct candidate *first, **last; /* names that are to be looked at */
    size_t n_candidates;
    struct walk *walk;        /* NULL: there was none yet */
    int n_claiming;           /* files whose first row is being committed */
    struct refusals refusals; /* lately */
    /* inspect.c */
    struct file_list inspections; /* files that wait for an inspector */
    struct inspect_share share;   /* of the inspectors */
    /* release.c */
    size_t n_waiting; /* files that are held, or gather for a group */
};

struct tenant *tenant_get(struct batchmgr *m, const char *id); /* made when new */
void tenants_free(struct batchmgr *m);                         /* what other modules keep in them, they have freed */

const struct conf_tenant *tenant_conf(struct batchmgr *m, const struct tenant *t); /* NULL: not configured */
bool tenant_accepts(const struct tenant *t); /* new files: configured, not suspended, not being removed */
int64_t tenant_weight(struct batchmgr *m, const struct tenant *t);

/* What the tenant uses of the dataset; made when new. */
struct usage *tenant_usage(struct tenant *t, const char *dataset);

/* A file of the tenant's ended refused, without a run: how many may do so is bounded (refusals.h). True when the tenant is being
 * slowed down for that. */
bool tenant_count_refusal(struct tenant *t);
bool tenant_is_slowed(struct tenant *t);

#endif
