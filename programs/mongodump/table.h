/* What a dump has of a collection, for comparing: of each document 128 bits of its _id's hash and 62 of its content's, 24 bytes in
 * a table that is four fifths full. Hashes are SipHash under a key drawn for the process, so that nobody can make two _ids that
 * look alike. The content is what is beside the _id, since servers move an _id to the front; _ids are compared as bytes: a server
 * also takes 1 and 1.0 for the same, of which an insert tells.
 *
 * A collection of more documents than a table may have is compared in parts, by the _id's hash: part after part, each of which
 * reads the file and the collection as a whole. */
#ifndef SIMBDP_MONGODUMP_TABLE_H
#define SIMBDP_MONGODUMP_TABLE_H

#include "base/buf.h"

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

enum { TABLE_DOCUMENTS = 8 << 20 /* 240 MiB */ };

enum table_state { TABLE_ABSENT, TABLE_SAME, TABLE_OTHER }; /* of the document in the target */

struct table_entry {
    uint64_t id[2];
    uint64_t content : 62, state : 2;
};

struct table {
    struct table_entry *v; /* an id of zeros: free */
    uint64_t cap, n;
    uint64_t part, parts;
    struct buf scratch;
};

struct fingerprint {
    uint64_t id[2], content;
};

/* Of a document that was checked (reader.h), or that a server sent. False: it has no _id. */
bool table_fingerprint(struct buf *scratch, const bson_t *doc, struct fingerprint *ret);

uint64_t table_parts(int64_t documents, int64_t at_most);
void table_init(struct table *t, int64_t documents, uint64_t part, uint64_t parts);
void table_fini(struct table *t);
/* Whether the document is of this part. */
bool table_is_of(const struct table *t, const struct fingerprint *f);
/* False: it is there already; *ret is what is there. NULL with false: it is full, since the file has grown. */
bool table_put(struct table *t, const struct fingerprint *f, struct table_entry **ret);
struct table_entry *table_find(const struct table *t, const struct fingerprint *f); /* NULL: it is not there */
/* All entries, as if nothing had been found. */
void table_reset(struct table *t);
/* How many are in that state. */
int64_t table_count(const struct table *t, enum table_state state);

#endif
