/* Files of lines that grow, are renamed to NAME.1 when they are large, and begun anew: journals of tenants, logs of programs. Each
 * is read on from where it was read to, and where that is can be kept over restarts. Lines are JSON objects with a time `ts`, as
 * programs of ours write them; others are passed over. */
#ifndef SIMBDP_KEEPER_FOLLOW_H
#define SIMBDP_KEEPER_FOLLOW_H

#include "base/buf.h"
#include "host/home.h"

#include <bson/bson.h>
#include <stddef.h>
#include <stdint.h>

enum { FOLLOW_TURN_BYTES = 1 << 20, FOLLOW_CATCH_UP_MS = 24 * 3600 * 1000 };

struct follow;

/* The first turn finds out where files end, unless follow_take says where they were read to. */
struct follow *follow_new(const struct home *h);
void follow_free(struct follow *f); /* NULL is fine */

/* `who` is what follow_file was told. */
typedef void follow_line_fn(void *arg, const char *who, const bson_t *line, int64_t ts_ms);

/* A turn: begin, each file, end. No more than FOLLOW_TURN_BYTES are read in one; the rest in the next. Lines that are older than
 * FOLLOW_CATCH_UP_MS when they are come to are counted instead. */
void follow_begin(struct follow *f, follow_line_fn *fn, void *arg);
void follow_file(struct follow *f, const char *path, const char *who); /* path: below the home */
void follow_end(struct follow *f);
int64_t follow_n_old(const struct follow *f); /* lines that were too old, in all */

/* Where everything was read to, as a JSON object. */
void follow_tell(const struct follow *f, struct buf *out);
/* Before the first turn: what follow_tell told an earlier process. A file that is another one by now, since the home was restored
 * or it was renamed twice, is read from its beginning; what is not younger than what was read then is passed over. */
void follow_take(struct follow *f, const bson_t *places);

#endif
