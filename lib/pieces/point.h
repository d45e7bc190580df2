/* A point: a home as it was. Its list says of each file what it is and in which pieces it lies.
 *
 *   points/POINT   {"v":1,"point":POINT,"at":MS,"done":MS,"home":PATH,"host":NAME,"version":V,"uid_base":N,"files":bool,
 *                   "mode":M,"uid":U,"gid":G,"entries":N,"bytes":N,"notes":[TEXT],"list":[PIECE,...],"check":BLAKE2b-256 of the
 * text before `,"check"`}
 *
 * `at` is when the first thing was read: what was confirmed before is in it. The list's pieces are lines, none of them cut:
 *
 *   {"path":P,"type":"dir","mode":M,"uid":U,"gid":G}
 *   {"path":P,"type":"link","to":T,"uid":U,"gid":G}
 *   {"path":P,"type":"file","mode":M,"uid":U,"gid":G,"mtime_ns":T,"size":N,"pieces":[PIECE,...]}
 *   {"more":[PIECE,...]}       further pieces of the file before it
 *
 * Paths are relative to the home. In them and in T, bytes that are no printable ASCII, and '%', are %XX. A directory comes before
 * what is in it. */
#ifndef SIMBDP_PIECES_POINT_H
#define SIMBDP_PIECES_POINT_H

#include "store.h"

#include "base/buf.h"
#include "base/json.h"

#include <sys/stat.h>

enum { POINT_VERSION = 1, POINT_NAME = 32, ENTRY_PIECES = 4096 };

struct point {
    char name[POINT_NAME];
    int64_t at_ms, done_ms, entries, bytes;
    int64_t uid_base;       /* of the home's block of uids; -1: none */
    bool files;             /* done/ and quarantine/ are in it */
    int64_t mode, uid, gid; /* of the home itself */
    char *home, *host, *version;
    char **notes; /* what was left out, and why */
    size_t n_notes;
    char (*list)[STORE_NAME];
    size_t n_list;
};

void point_fini(struct point *p);
#define AUTO_POINT __attribute__((cleanup(point_fini)))

/* A name for a point at this time. */
void point_name(int64_t wall_ms, char out[POINT_NAME]);

/* ---- writing ---- */

struct point_writer {
    struct store *store;
    struct point p;
    struct buf lines; /* of the next piece of the list */
};

int point_add_dir(struct point_writer *w, const char *path, const struct stat *st, struct err *e);
int point_add_link(struct point_writer *w, const char *path, const char *to, const struct stat *st, struct err *e);
/* Of a file of n pieces. */
int point_add_file(struct point_writer *w, const char *path, const struct stat *st, int64_t size, const char (*pieces)[STORE_NAME],
                   size_t n, struct err *e);
/* For people: something was left out. */
void point_note(struct point_writer *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Writes the point: from here on it is there. */
int point_finish(struct point_writer *w, struct err *e);
void point_writer_fini(struct point_writer *w);

/* ---- reading ---- */

/* ERR_FORMAT: it is not there, or damaged. *ret is to be freed with point_fini, also on failure. */
int point_read(const struct store *s, const char *name, struct point *ret, struct err *e);

struct entry {
    char type; /* 'd', 'l' or 'f' */
    char *path, *to;
    mode_t mode;
    int64_t uid, gid, mtime_ns, size;
    char (*pieces)[STORE_NAME];
    size_t n_pieces;
};

/* Calls fn for each entry, which is valid during the call, until it returns a negative code. ERR_FORMAT: the list is damaged, or
 * says what no list says (a path out of the home, say). */
int point_each(struct store *s, const struct point *p, int (*fn)(void *arg, const struct entry *v, struct err *e), void *arg,
               struct err *e);

#endif
