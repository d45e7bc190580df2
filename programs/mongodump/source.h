/* A dump that is to be restored: one of ours, or of mongodump's (then there is no manifest; files may be compressed). Everything in
 * it is read and checked before anything of it is used. */
#ifndef SIMBDP_MONGODUMP_SOURCE_H
#define SIMBDP_MONGODUMP_SOURCE_H

#include "manifest.h"
#include "metadata.h"

#include "base/map.h"
#include "term/progress.h"

struct source_collection {
    char *database, *name;
    char *base;            /* path below the dump, without what it ends with */
    char *bson, *metadata; /* paths; NULL: there is none */
    bool bson_gz, metadata_gz;
    struct metadata m;
    int64_t documents;
};

struct source {
    const char *dir;
    int dirfd;
    bool ours; /* there is a manifest */
    struct manifest manifest;
    struct source_collection *v; /* by database and name, views last */
    size_t n;
    struct map by_base; /* of v while it is made: number, from 1 on */
    char **notes;       /* what of it is not restored */
    size_t n_notes;
};

struct source_order {
    const char *dir;
    char **databases; /* n 0: all */
    size_t n_databases;
};

/* Opens and checks. Borrows the order. An error names file and place. Blocks for a pass over all files; no dump of ours writes
 * there until source_close, which is to be called in any case. */
int source_open(struct source *s, const struct source_order *o, struct progress *p, struct err *e);
void source_close(struct source *s);

#endif
