/* SQLite databases whose pages have checksums, since SQLite gives them none: a bit that flipped on the disk is noticed when its
 * page is read, not believed.
 *
 * The last four bytes of every page, which SQLite leaves to us (https://www.sqlite.org/fileformat.html, "reserved space"), are the
 * CRC-32 (zlib's) of the page's number, 32 bits little-endian, and of what stands before them. They are set when a page is written
 * to the database file; in its write-ahead log SQLite's own checksums hold. Zero is none: so a page comes out of the log when a
 * program without us, which may read such a database, was the last to close it. What such a program changes keeps its old checksum
 * and is taken for damage.
 *
 * A damaged page fails what reads it with SQLITE_IOERR_DATA, and is logged with its file, once a process. */
#ifndef SIMBDP_DB_DB_H
#define SIMBDP_DB_DB_H

#include "base/err.h"

#include <sqlite3.h>
#include <stdint.h>

/* As sqlite3_open_v2 with these flags. A database that is new gets checksums, one of before them is read as it is. */
int db_open(const char *path, int flags, sqlite3 **ret);

/* For who owns the database, before anybody else writes to it: a database of before them gets checksums (it is rewritten; blocks
 * for about a second for each 100 MB). Then, unless others use the database, every page is read. ERR_FORMAT: a page is damaged,
 * with its file, its number and what to do; -EIO. */
int db_own(sqlite3 *db, struct err *e);

/* The same look at every page, and nothing is changed but that what is in the write-ahead log goes to where it belongs. */
int db_check(sqlite3 *db, struct err *e);

/* Takes damaged pages for what they are now, as far as SQLite does: their checksums are forgotten until they are written again.
 * With nobody else using the database. Returns how many, or -errno. */
int64_t db_accept(const char *path, struct err *e);

/* sqlite3_errmsg, but of a damaged page that it is one. db NULL: there was no memory. Valid as long as that. */
const char *db_why(sqlite3 *db);

#endif
