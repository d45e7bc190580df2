/* Where backups are kept. A directory:
 *
 *   backup.json      {"v":1,"home":PATH}: that it is one, and of which home. Written once
 *   objects/ab/cd…   pieces of at most STORE_PIECE bytes, each under the BLAKE2b-256 of its bytes (hex), compressed (a zstd frame).
 *                    Equal pieces are kept once, whichever files and points they belong to; none is ever changed
 *   objects/ab/cd….damaged   one whose bytes were found to be others: the next backup that has the right ones writes it again
 *   points/POINT     a backup: a small JSON object (point.h) that says in which pieces the list of its files is
 *   tmp/             what is being written
 *   unfinished       a backup is being written, or was cut short
 *   lock             locked while somebody works on it: exclusively, or shared by those that only read
 *
 * A backup writes its pieces first, each under another name and renamed; then everything is synced; then the point is written,
 * synced and renamed. So a point that is there has all its pieces, durable, and a backup that was cut short anywhere is none. What
 * it left behind are pieces, which the next one uses: those written since `unfinished` was made are read again before, since a
 * power cut may have taken bytes of them. Pieces that no point names go with the next `--keep`.
 *
 * Or a stream, a tar archive (ustar) of the same: backup.json, objects as they come, and the point last. An archive that was cut
 * short has no point.
 *
 * Everything in it is mode 0600 or 0700, since it has the home's secrets. */
#ifndef SIMBDP_PIECES_STORE_H
#define SIMBDP_PIECES_STORE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORE_PIECE = 1 << 20, STORE_NAME = 65, STORE_VERSION = 1 };

struct store;

enum store_use {
    STORE_WRITE, /* made where it is not there; exclusively */
    STORE_READ,
    STORE_LOOK, /* at its points alone; while somebody writes, too */
};

/* home: of which home, for STORE_WRITE. ERR_REFUSED: another one's, somebody works on it, or others may read it; the text says what
 * to do. Blocks. */
int store_open(const char *path, enum store_use use, const char *home, struct store **ret, struct err *e);
/* Writes a stream to fd. */
int store_to_stream(int fd, const char *home, struct store **ret, struct err *e);
/* Reads a stream from fd into the directory dirfd, which is empty and becomes such a store. -> *ret_point: the point that it ends
 * with, which the caller frees. ERR_FORMAT: it is no such stream, or was cut short. Blocks. */
int store_from_stream(int fd, int dirfd, const char *path, struct store **ret, char **ret_point, struct err *e);
void store_close(struct store *s); /* NULL is fine */
/* The text of backup.json, for who keeps such a directory to open it later; the caller frees. */
char *store_marker(const char *home);

int store_dir(const struct store *s); /* -1: a stream */
const char *store_path(const struct store *s);
/* The home it is of. */
const char *store_home(const struct store *s);

/* At most so many bytes a second are put; 0: no bound. */
void store_set_rate(struct store *s, int64_t bytes_per_s);
/* Keeps n bytes (1 to STORE_PIECE); ret_name is what they are got by. Blocks. */
int store_put(struct store *s, const void *p, size_t n, char ret_name[STORE_NAME], struct err *e);
/* Whether a piece is there. Its bytes are not looked at. */
bool store_has(const struct store *s, const char *name);
/* The bytes of a piece, at most STORE_PIECE, into `room`. ERR_FORMAT: it is not there, or its bytes are others; -errno. Blocks. */
int store_get(struct store *s, const char *name, void *room, size_t *ret_n, struct err *e);
/* One whose bytes are others counts as not there from now on. False: it is not there, or this may not be written. */
bool store_set_aside(struct store *s, const char *name);

/* The last thing that is written: everything before it is durable then. Blocks. */
int store_put_point(struct store *s, const char *point, const void *p, size_t n, struct err *e);
/* The points, oldest first. The caller frees them and the list. */
int store_points(const struct store *s, char ***ret, size_t *ret_n, struct err *e);
bool store_has_point(const struct store *s, const char *point);
int store_drop_point(struct store *s, const char *point, struct err *e);
bool store_is_point(const char *name);
/* Removes all pieces but those in `keep` (32 bytes each, sorted); the number of those removed, or a negative code. Blocks. */
int64_t store_sweep(struct store *s, const unsigned char (*keep)[32], size_t n, struct err *e);

/* What was put so far: bytes, and those of them that were not there before, and what they take. */
struct store_figures {
    int64_t bytes, fresh_bytes, stored_bytes;
};
struct store_figures store_figures(const struct store *s);

#endif
