/* SQLite databases whose pages have checksums. SQLite has none, so a bit that flips on the disk would be believed; here it is
 * noticed when its page is read.
 *
 * The last four bytes of every page, which SQLite leaves alone (https://www.sqlite.org/fileformat.html, "reserved space"), are a
 * CRC-32 (zlib's) of the page's number (32 bits, little-endian) and of the rest of the page. It is set when a page is written to
 * the database file; in the write-ahead log SQLite's own checksums hold.
 *
 * Zero means that there is none. A page gets there without one when a program that does not use this module, which may read such a
 * database, was the last to close it and moved the log's pages into the file. A page that such a program changes keeps its old
 * checksum and is taken for damage.
 *
 * Reading a damaged page fails with SQLITE_IOERR_DATA. It is logged with its file, once a process. */
#ifndef SIMBDP_DB_DB_H
#define SIMBDP_DB_DB_H

#include "base/err.h"

#include <sqlite3.h>
#include <stdint.h>

/* As sqlite3_open_v2 with these flags. A new database gets checksums; one of a version before them is read as it is. */
int db_open(const char *path, int flags, sqlite3 **ret);

/* For the program that owns the database, before anybody else writes to it. A database of a version before checksums gets them (it
 * is rewritten; blocks for about a second for each 100 MB). Then every page is read, unless others use the database. ERR_FORMAT: a
 * page is damaged; the text has its file, its number and what to do. Or -EIO. */
int db_own(sqlite3 *db, struct err *e);

/* Reads every page likewise. Nothing is changed, except that the write-ahead log is moved into the file. */
int db_check(sqlite3 *db, struct err *e);

/* Accepts damaged pages as they are now, as far as SQLite can read them: they have no checksum until they are written again. To be
 * called while nobody uses the database. Returns how many there were, or -errno. */
int64_t db_accept(const char *path, struct err *e);

/* As sqlite3_errmsg, but says of a damaged page that it is damaged. db NULL: there was no memory. Valid as long as
 * sqlite3_errmsg's. */
const char *db_why(sqlite3 *db);

#endif
