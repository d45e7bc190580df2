/* SQLite databases of a home, copied while others write to them. */
#ifndef SIMBDP_BACKUP_DATABASES_H
#define SIMBDP_BACKUP_DATABASES_H

#include "pieces/copy.h"

#include <sqlite3.h>

/* A database of a home as it is at one moment: a read transaction. Writers are not held up; the write-ahead log grows while it
 * lasts. */
struct database {
    const struct home *home;
    const char *path; /* below the home; borrowed */
    sqlite3 *db;
};

/* -ENOENT: there is none; ERR_FORMAT: it is damaged. To be ended also on failure. Blocks. */
int database_begin(const struct home *h, const char *path, struct database *ret, struct err *e);
/* Goes on to what it is now. Nothing may be prepared on it. */
int database_again(struct database *d, struct err *e);
/* Copies it, as it was when it began, to the file `to`, and checks the copy. ERR_FORMAT: it is damaged. Blocks. */
int database_copy(struct database *d, const char *to, struct err *e);
void database_end(struct database *d);

/* Copies HOME/path, as it is at one moment, to the file `to`, and checks the copy. -ENOENT: there is none; ERR_FORMAT: it is
 * damaged. Writers are not held up; the write-ahead log grows while it lasts. Blocks. */
int database_snapshot(const struct home *h, const char *path, const char *to, struct err *e);
/* Checks a copy of `shown`: its pages' checksums, and what SQLite can tell. ERR_FORMAT: it is damaged; -EIO: it cannot be read. */
int database_check(const char *path, const char *shown, struct err *e);
/* Puts the copy as HOME/path. */
int database_put(struct copying *k, const char *path, const char *copy, struct err *e);

#endif
