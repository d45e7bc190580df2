/* Streams of a tenant that goes to another home: written as a file there, loaded from one here.
 *
 * The file, little-endian: the magic, then records one behind the other,
 *
 *   u32 size    of header and body
 *   u32 check   low half of XXH3-64 over the rest of header and body, seeded with the record's number in the file (from 0 on), so
 *               that none can be left out, repeated or exchanged
 *   u8  type    of parts.h's records, or one of moves_parts.h's
 *   u8[7]       zero
 *
 * Bodies are those of the log, but for the numbers of streams and subscriptions: the loading store gives its own. Of each stream in
 * turn: REC_STREAM with its name within the tenant, sequence and epoch; REC_EPOCHS; REC_GAPS; its messages (REC_MESSAGES,
 * REC_TRACES) by rising sequence; REC_PUBLISHERS; REC_TALLY; of each subscription REC_SUB and REC_TALLY; MOVES_STREAM_END.
 * MOVES_END is last.
 *
 * What is loaded is nobody's until it is settled: it has names of its own in the log (">tenant/stream"), and one record gives all
 * of them those that they are to have. So whoever is killed while he loads leaves nothing but what the next one drops. */
#ifndef SIMBDP_STORE_MOVES_H
#define SIMBDP_STORE_MOVES_H

#include "streams.h"

enum { MOVES_HEADER = 16, MOVES_MAX_STREAMS = 1000, MOVES_MAX_SUBS = 1000, MOVES_NAME = 64 };

/* ---- export.c ---- */

/* How far an export is; zeros: at its beginning. */
struct export_at {
    char stream[MOVES_NAME]; /* the next one's name within the tenant, or of the one that is under way; "": before the first */
    uint64_t seq;            /* of it: 0 its head, UINT64_MAX its end, else its messages from this one on */
    uint64_t record;         /* number of the next record */
    bool end;                /* nothing is left */
};

/* Appends what follows to `out`, about max bytes of it, and moves *at. The streams must not change from the first call to the last.
 * note: what the caller keeps of a stream. A message that cannot be read any more is left out, which is logged: it counts as lost
 * where the rest is settled. ERR_REFUSED: a stream's messages are elsewhere (mirror.c). Reads the disk. */
int export_part(struct streams *all, const char *tenant, struct export_at *at, size_t max,
                uint32_t (*note)(const struct stream *st), struct buf *out, struct err *e);

/* ---- import.c ---- */

struct import;

/* Drops what came of an earlier try. fd: the file; TAKE. ERR_REFUSED: the tenant has streams that something was published to. */
int import_new(struct streams *all, const char *tenant, int fd, struct import **ret, struct err *e);
/* Loads about max bytes. 1: there is more; 0: all of it was loaded, and is durable after the next streams_commit with `sync`.
 * ERR_FORMAT: the file is not one of these, or is damaged; ERR_VERSION; -ENOSPC. Reads the disk. */
int import_step(struct import *m, size_t max, struct err *e);
/* Drops what it loaded, unless that is all. NULL is fine. */
void import_free(struct import *m);

/* ---- arrivals.c ---- */

/* Calls fn for each stream of the tenant that was loaded and is not settled; name: within the tenant. */
void arrivals_each(struct streams *all, const char *tenant, void (*fn)(void *arg, const char *name, uint32_t note), void *arg);
/* They become the tenant's streams, in place of such as are there already and hold nothing; the caller has forgotten those. How
 * many. ERR_REFUSED: they were not loaded to their end, or there are others that something was published to; nothing is changed. */
int arrivals_settle(struct streams *all, const char *tenant, struct err *e);
/* Drops them. */
void arrivals_drop(struct streams *all, const char *tenant);

#endif
