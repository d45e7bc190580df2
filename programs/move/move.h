/* A tenant as a stream. It is an archive as a backup is one (lib/pieces/store.h): pieces under their hashes, and at the end the
 * list of files; so damage, a cut and a newer version are seen before anything is changed. Paths are the source home's:
 *
 *   state/moves/T.out/tenant.json   the first: {"v":2,"move":ID,"tenant":T,"home":PATH,"ahead":bool,"uid":N,"suspended":bool,
 *                                   "mongo":WHERE,"own_mongo":bool,"documents":bool}; v is 1 where it has neither `streams` nor
 * `book.db` state/moves/T.out/rows.db       SQLite: users, tokens; and, not ahead, files, quality, runs, hand_ins
 *   state/moves/T.out/streams       streams with what is in them (programs/broker/store/moves.h); where it has any, not ahead
 *   state/moves/T.out/book.db       SQLite: instances, quality, apps, asks, ask_keys of streammgr's book; likewise
 *   state/moves/T.out/mongo/        documents, as `mysimbdp mongo dump` writes them
 *   conf/tenants/T.conf, conf/own/T.conf, apps/T, keys/T, logs/tenants/T, done/T, quarantine/T
 *   staging/T, work/ID, runs/ID     not ahead
 *   state/moves/T.out/kept          the last: files that were brought ahead and have not changed, a line each: SIZE MTIME_NS PATH
 *
 * `ahead`: while the tenant works, so that little is left for when it stands still. */
#ifndef SIMBDP_MOVE_MOVE_H
#define SIMBDP_MOVE_MOVE_H

#include "base/err.h"
#include "host/home.h"
#include "pieces/point.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

enum { TENANT_STREAM_VERSION = 2 };

struct order {
    const struct home *home;
    const char *tenant, *id;
    bool ahead, documents;
};

/* ---- export.c ---- */

/* Writes the stream to fd. Blocks. */
int export_tenant(const struct order *o, int fd, struct err *e);

/* ---- receive.c ---- */

/* Takes a stream into state/moves/T.in, whole and checked, and puts what is not laid by itself beside it: T.rows.db, T.conf,
 * T.mongo/. *ret is its tenant.json, to be freed. Nothing else is changed. Blocks. */
int receive_tenant(const struct home *h, int fd, char **ret, struct err *e);

/* ---- lay.c ---- */

/* Puts the files of state/moves/T.in where they belong, for the tenant's uid here; what is there already as it came is left. Again:
 * goes on. Blocks; durable. */
int lay_tenant(const struct home *h, const char *tenant, int64_t uid, struct err *e);

/* ---- rows.c ---- */

/* Makes the database PATH (relative to the home) of the tenant's rows. */
int rows_export(const struct order *o, const char *path, int64_t *ret_uid, bool *ret_suspended, struct err *e);
/* Makes the database PATH of what streammgr's book has of the tenant; where that is nothing, there is no file. */
int rows_export_book(const struct order *o, const char *path, struct err *e);
/* Of either database: adds the paths of what work/ and runs/ have of the tenant. The caller frees each and the list. */
int rows_each_id(const char *path, bool is_book, char ***ret, size_t *ret_n, struct err *e);
/* Takes users and tokens of state/moves/T.rows.db; check: says only whether that can be done. ERR_REFUSED: a name is somebody
 * else's. */
int rows_take_accounts(const struct home *h, const char *tenant, bool check, struct err *e);

/* ---- allowed.c: what a stream may bring ---- */

enum place {
    PLACE_none,  /* nothing of a tenant's: the stream is refused */
    PLACE_above, /* a directory that every home has */
    PLACE_home,  /* as it is called */
    PLACE_aside, /* for state/moves: `*ret_name` is its name behind "T." there */
};
enum place place_of(const char *tenant, const struct entry *v, const char **ret_name);

/* ---- kept.c ---- */

/* Calls fn for each line of a list of kept files. ERR_FORMAT: it is none. */
int kept_each(int dirfd, const char *path, int (*fn)(void *arg, const char *path, int64_t size, int64_t mtime_ns, struct err *e),
              void *arg, struct err *e);
/* Whether a line can tell of it. */
bool kept_can_tell(const char *path);

static inline int64_t mtime_ns_of(const struct stat *st)
{
    return st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec;
}

#endif
