/* Whether a database of the home's is the one that it had, and knows all that it knew: one that was deleted, emptied, restored from
 * an older copy or lost its -wal opens as well as any, and would take what was stored or asked for as unknown.
 *
 * The database has an id and counts its commits (its table `continuity`, of one row); a mark beside it says both again, one line
 *   <id> <commits, 20 digits>\n
 * that is overwritten behind each commit and not synced. The ledger syncs each commit, so a power cut may leave its mark behind it,
 * never ahead. The book does not (synchronous NORMAL): a power cut may take commits that its mark knows of. Its mark has a second
 * line,
 *   <id of this boot> <commits that were synced, 20 digits>\n
 * written when the book is opened and closed, and after another boot only that number is missed. */
#ifndef SIMBDP_DB_CONTINUITY_H
#define SIMBDP_DB_CONTINUITY_H

#include "host/home.h"

#include <sqlite3.h>
#include <stdint.h>

struct continuity_of; /* which database */
extern const struct continuity_of continuity_ledger, continuity_book;

#define CONTINUITY_TABLE "CREATE TABLE IF NOT EXISTS continuity(id TEXT, commits INTEGER);"

struct continuity {
    const struct continuity_of *of;
    int fd, dirfd; /* -1: none; dirfd is the home's, borrowed */
    char id[ID_SIZE];
    int64_t commits;
    sqlite3_stmt *bump; /* within the transaction */
};

/* Before it is opened: a database that is not there, or empty, in a home that had one is ERR_REFUSED, as below. */
int continuity_look(const struct continuity_of *of, const struct home *h, struct err *e);
/* Gives a new database its id, and compares an older one. ERR_REFUSED: it lacks what the home had; the text says what and what to
 * do. Blocks for small files. What was begun is ended by continuity_fini, also on failure. */
int continuity_init(struct continuity *c, const struct continuity_of *of, const struct home *h, sqlite3 *db, struct err *e);
void continuity_fini(struct continuity *c); /* before the database is closed */
/* In a transaction: it counts. A code of SQLite. */
int continuity_count(struct continuity *c);
/* The transaction was committed. */
void continuity_committed(struct continuity *c);

/* For who only looks, while others may write: ERR_REFUSED, and the text says what the database lacks and no more. db NULL: it
 * cannot be opened, or is not there. */
int continuity_check(const struct continuity_of *of, const struct home *h, sqlite3 *db, struct err *e);
/* Any database is the right one from now on. With nobody using it. */
int continuity_forget(const struct continuity_of *of, const struct home *h, struct err *e);

#endif
