/* DIR/mysimbdp.json of a dump of ours; mongorestore skips it. A JSON object:
 *   {"v": 1, "complete": bool, "began_at", "ended_at": times or null, "home": path or null, "databases": [name],
 *    "files": [{"file": path below DIR, "documents": n, or null of metadata, "bytes": n, "hash": BLAKE2b, 32 bytes in hex}],
 *    "notes": [text]}
 * It is written with "complete": false and the databases before anything else, and again when all files are on the disk: so a dump
 * that was cut short is known by it. `files` is empty before. */
#ifndef SIMBDP_MONGODUMP_MANIFEST_H
#define SIMBDP_MONGODUMP_MANIFEST_H

#include "reader.h"

#include "base/map.h"

#define MANIFEST "mysimbdp.json"
enum { MANIFEST_VERSION = 1 };

struct manifest_file {
    char *file;
    int64_t documents, bytes; /* documents -1: metadata */
    char hash[2 * READER_HASH_BYTES + 1];
};

struct manifest {
    bool complete;
    int64_t began_wall_ms, ended_wall_ms;
    char *home; /* NULL: it is not a home's */
    char **databases;
    size_t n_databases;
    struct manifest_file *files;
    size_t n_files;
    struct map by_name; /* of files: number, from 1 on */
    char **notes;
    size_t n_notes;
};

void manifest_fini(struct manifest *m);
struct manifest_file *manifest_add(struct manifest *m, const char *file);
void manifest_note(struct manifest *m, char *text);                                    /* takes it over */
const struct manifest_file *manifest_find(const struct manifest *m, const char *file); /* NULL: it names none like that */

/* Durable and atomic. */
int manifest_write(const struct manifest *m, int dirfd, struct err *e);
/* 0; -ENOENT: there is none; ERR_FORMAT, ERR_VERSION or -errno. */
int manifest_read(struct manifest *ret, int dirfd, struct err *e);

#endif
