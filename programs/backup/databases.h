/* SQLite databases of a home, copied while others write to them. */
#ifndef SIMBDP_BACKUP_DATABASES_H
#define SIMBDP_BACKUP_DATABASES_H

#include "pieces/copy.h"

#include <sqlite3.h>

/* Copies HOME/path, as it is at one moment, to the file `to`, and checks the copy. -ENOENT: there is none; ERR_FORMAT: it is
 * damaged. Writers are not held up; the write-ahead log grows while it lasts. Blocks. */
int database_snapshot(const struct home *h, const char *path, const char *to, struct err *e);
/* Checks a copy of `shown`: its pages' checksums, and what SQLite can tell. ERR_FORMAT: it is damaged; -EIO: it cannot be read. */
int database_check(const char *path, const char *shown, struct err *e);
/* Puts the copy as HOME/path. */
int database_put(struct copying *k, const char *path, const char *copy, struct err *e);

#endif
