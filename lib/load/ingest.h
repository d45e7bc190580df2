/* Files into a collection: the reader on one side, the sink on the other, the report beside both. Shared by simbdp-load and
 * libsimbdp.
 *
 * _id: 24 bytes: a prefix of 16 that stands for tenant, dataset, content and how it is loaded, and the record's byte offset in
 * its decompressed input, big-endian; a further input's offsets go on where the one before ended. The same load therefore
 * makes the same ids, and what is there already is recognised by them: a killed load is simply run again. With
 * on_key_conflict = "replace" it is a hash of the key's values instead. */
#ifndef SIMBDP_LOAD_INGEST_H
#define SIMBDP_LOAD_INGEST_H

#include "result_file.h"
#include "sink.h"

enum { INGEST_PREFIX = 16 };

/* Looks at a row's elements before they are stored and may change them: 0 store, 1 leave out, ERR_FORMAT refuse (and set
 * rec->reject, ->rule). */
typedef int (*ingest_row_fn)(void *arg, struct record *rec, struct buf *elements);

struct ingest {
    struct result_file report;
    struct sink *sink;
    const char *tenant, *dataset;
    enum on_key_conflict on_key_conflict;
    unsigned char prefix[INGEST_PREFIX];
    int64_t base;       /* offset of the current input's first byte */
    int64_t skip_until; /* records before are stored already */
    bool refused;       /* the server refused a record: the checkpoint stays before it, so that a resumed load counts it again */
};

/* Opens the sink of the collection (url, database, collection as in sink.h); what on_key_conflict asks for is in `spec`. */
int ingest_open(struct ingest *in, const char *url, const char *database, const char *collection, const struct spec *spec,
                struct err *e);
void ingest_close(struct ingest *in);

/* Removes the rows that were stored under a prefix. Errors as sink_flush. */
int ingest_delete_prefix(struct ingest *in, const unsigned char prefix[INGEST_PREFIX], struct err *e);

/* One input, from its first byte. 0, errors of the reader, or those of sink_flush. */
int ingest_input(struct ingest *in, int fd, enum src_compression c, const struct spec *spec, ingest_row_fn fn, void *arg,
                 struct err *e);
/* A row that is made otherwise, as BSON elements; `offset` numbers it. */
int ingest_row(struct ingest *in, const struct spec *spec, const struct record *rec, int64_t end, const struct buf *elements,
               struct err *e);

struct ingest_rejects {
    int64_t rows, rejects; /* rows: with them */
};

/* Only counts, to what is there already, what an input's rejects would be. */
int ingest_count_rejects(int fd, enum src_compression c, const struct spec *spec, struct ingest_rejects *n, struct err *e);
/* NULL, or the key of the agreement that they break, and what to say of it; -1: no limit. */
const char *ingest_rejects_broken(const struct ingest_rejects *n, int64_t max, double max_pct, char *text, size_t size);

#endif
