/* A dump into a MongoDB, in which other documents may be already.
 *
 * Of each collection: made with its options if it is not there; what is there is read and compared (table.h), what is missing is
 * inserted, and all is read again. Then its indexes are made, one after the other. A document that is there with another content
 * stays, and is told; with `exact` it is replaced, and what the dump has not is deleted. So the whole may be cut short anywhere,
 * said again, or done twice at once. */
#ifndef SIMBDP_MONGODUMP_RESTORE_H
#define SIMBDP_MONGODUMP_RESTORE_H

#include "source.h"

#include <mongoc/mongoc.h>

struct restored_collection {
    char *name;        /* database.collection */
    int64_t documents; /* in the dump */
    int64_t present;   /* were there, with the same content */
    int64_t inserted;  /* were not, and are now */
    int64_t conflicts; /* another document has the _id, or a value of a unique index */
    int64_t refused;   /* by the server, for another reason */
    int64_t missing;   /* are not there, although nothing refused them: somebody deletes */
    int64_t kept;      /* marks of homes (simbdp_home), which count up: the target's stay */
    int64_t extra;     /* of the target alone */
    int64_t deleted;   /* with `exact`: of the target alone, or other content */
    int64_t indexes;   /* of the dump, which are there now */
};

struct restore_order {
    struct source_order from;
    bool exact;
    int64_t table_documents; /* at most so many are compared at once */
    mongoc_client_t *(*connect)(struct err *e);
    void (*say)(void *arg, const char *text); /* what is wrong with a document, an index or a collection; some examples of each */
    void *arg;
};

struct restored {
    struct restored_collection *v;
    size_t n;
    int64_t problems; /* documents, indexes and collections that are not as in the dump */
    char **notes;     /* of the dump, as source.h has them; and collections that were there with other options */
    size_t n_notes;
};

/* 0: all was done that could be, but there may be problems; or negative. *ret is filled as far as it came, and freed with
 * restored_fini in any case. */
int restore_run(const struct restore_order *o, struct restored *ret, struct err *e);
void restored_fini(struct restored *r);

#endif
