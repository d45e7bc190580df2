/* logs/audit.jsonl: who changed what, from where, and what came of it. Behind 64 MiB it is put aside as audit.<number>.jsonl, by
 * the number of its last record in 20 digits, and a new one goes on with a record audit_begin. A JSON object a line:
 *   {"seq":1,"ts":…,"who":…,"from":…,"what":…,"tenant_id":…,"subject":…,"outcome":…,"prev":…,"hash":…}
 * `hash` is BLAKE2b-256 (RFC 7693), in hex, of the line up to the comma before "hash"; `prev` is the hash of the record before it
 * (64 zeros before the first). So a record that is changed, removed or put between others breaks the chain; that the last ones are
 * missing shows by the head that state/audit.head keeps. Whoever may write both files can make another chain: compare with a head
 * (audit_head) that was noted elsewhere. */
#ifndef SIMBDP_ACCOUNTS_AUDIT_H
#define SIMBDP_ACCOUNTS_AUDIT_H

#include "base/err.h"

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AUDIT_FIELD_MAX = 256 /* bytes of a text; more is cut off */, AUDIT_HASH_SIZE = 65 };

struct audit_record {
    const char *who, *from; /* account or unix user; address, or "local" */
    const char *what;       /* user_add, token_revoke, upload, retry, … */
    const char *tenant;     /* NULL: of the platform */
    const char *subject;    /* what it was done to: a file's id, a user's name; may be NULL */
    const char *outcome;    /* "ok", or a code */
};

/* Adds a record durably, below a lock on the file (blocks for others' appends and a sync). A record that a crash cut short is
 * closed off first, by a record that says so (audit_cut). dirfd: the home's. 0 or -errno; -EINVAL: `what` begins with audit_, which
 * is for the log's own records. Damage does not keep it from adding: the chain goes on from the head, so that it stays to be seen.
 */
int audit_add(int dirfd, const struct audit_record *r, struct err *e);

/* Reads all of it. 0: whole, from *ret_first to *ret_last; *ret_first is greater than 1 where the files with what was before are
 * elsewhere. ERR_FORMAT: the text says which record does not fit, and how. */
int audit_verify(int dirfd, int64_t *ret_first, int64_t *ret_last, struct err *e);

/* The last record as state/audit.head knows it: 0 and zeros before the first. 0, -errno or ERR_FORMAT. */
int audit_head(int dirfd, int64_t *ret_seq, char ret_hash[AUDIT_HASH_SIZE], struct err *e);

/* Shows all records, oldest first, until `each` gives something else than 0, which is then the result. Lines that are no JSON
 * object are passed over, and counted. The chain is not looked at. -errno; no records where there is no file. */
typedef int (*audit_each_fn)(void *arg, const bson_t *record, const char *line, size_t n);
int audit_each(int dirfd, audit_each_fn each, void *arg, int64_t *ret_n_skipped, struct err *e);

/* Shows records, newest first, from *place on: begin with {0, AUDIT_END}, and go on with what it became. Ends when `each` gives
 * something else than 0, when about max_bytes were read, or at the oldest: then *ret_more is false. Records that are added
 * meanwhile are not shown. 0; ERR_USAGE: no such place; -errno. Blocks for the disk, and for an append that is going on. */
#define AUDIT_END INT64_MAX
struct audit_place {
    int64_t seq, at; /* of a record: its number, and where it begins in its file */
};
int audit_newest(int dirfd, struct audit_place *place, int64_t max_bytes, audit_each_fn each, void *arg, int64_t *ret_n_skipped,
                 bool *ret_more, struct err *e);

#endif
