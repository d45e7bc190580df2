/* A .bson file of a dump: documents, one behind another, each as bsonspec.org has it. Also compressed as a whole (gzip). */
#ifndef SIMBDP_MONGODUMP_READER_H
#define SIMBDP_MONGODUMP_READER_H

#include "base/buf.h"
#include "base/err.h"

#include <bson/bson.h>
#include <sodium.h>
#include <stdbool.h>
#include <zlib.h>

enum {
    READER_MAX_DOCUMENT = 16 * 1024 * 1024 + 16 * 1024, /* what a server takes with what it adds itself */
    READER_HASH_BYTES = 32,                             /* BLAKE2b */
};

struct reader {
    const char *path; /* of the file, below the dump; borrowed */
    int fd;
    gzFile gz; /* NULL: it is not compressed */
    struct buf b;
    size_t at;      /* of the next document in b */
    int64_t offset; /* of the same in the file, uncompressed */
    int64_t bytes;  /* read so far, uncompressed */
    bool ended, hashes;
    crypto_generichash_state hash;
};

/* A file of a dump for reading: a regular one, and no link. A descriptor, or negative. */
int reader_open_file(int dirfd, const char *path, struct err *e);

/* gz: it is compressed. hashes: what is read is hashed. 0, or -errno with its text. */
int reader_open(struct reader *r, int dirfd, const char *path, bool gz, bool hashes, struct err *e);
void reader_close(struct reader *r);
/* The next document, a view until the next call, and where it begins. 1; 0: there is no more; or negative, with file and offset: it
 * cannot be read, or what is there is no document. Of the document its length alone was looked at. */
int reader_next(struct reader *r, bson_t *ret, int64_t *ret_offset, struct err *e);
/* Whether the document is sound and has an _id. Nothing of a file is believed before. */
int reader_check(const struct reader *r, const bson_t *doc, int64_t offset, struct err *e);
/* Of all that was read; once, at the end. */
void reader_hash(struct reader *r, char out[2 * READER_HASH_BYTES + 1]);

#endif
