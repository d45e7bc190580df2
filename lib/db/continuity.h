/* Whether a database of the home's is the one that the home had, with all that it knew. A database that was deleted, emptied,
 * restored from an older copy, or that lost its -wal, opens as well as any. Work would go on with it, and what was stored or asked
 * for before would be unknown.
 *
 * The database has an id and counts its commits (table `continuity`, one row). A mark beside it says both again, in one line
 *   <id> <commits, 20 digits>\n
 * that is overwritten behind each commit and not synced. The ledger syncs each commit, so a power cut may leave its mark behind it,
 * never ahead. The book does not (synchronous NORMAL): a power cut may take commits that its mark knows of. So its mark has a
 * second line,
 *   <id of this boot> <commits that were synced, 20 digits>\n
 * written when the book is opened and closed. After another boot only that number of commits has to be there. */
#ifndef SIMBDP_DB_CONTINUITY_H
#define SIMBDP_DB_CONTINUITY_H

#include "host/home.h"

#include <sqlite3.h>
#include <stdint.h>

struct continuity_of; /* which database it is */
extern const struct continuity_of continuity_ledger, continuity_book;

#define CONTINUITY_TABLE "CREATE TABLE IF NOT EXISTS continuity(id TEXT, commits INTEGER);"

struct continuity {
    const struct continuity_of *of;
    int fd, dirfd; /* -1: none; dirfd is the home's, borrowed */
    char id[ID_SIZE];
    int64_t commits;
    sqlite3_stmt *bump; /* within the transaction */
};

/* To be called before the database is opened. ERR_REFUSED when it is not there, or empty, in a home that had one; see below. */
int continuity_look(const struct continuity_of *of, const struct home *h, struct err *e);
/* Gives a new database its id; compares an older one with its mark. ERR_REFUSED: the database lacks what the home had; the text
 * says what, and what to do. Blocks for small files. continuity_fini has to follow, also on failure. */
int continuity_init(struct continuity *c, const struct continuity_of *of, const struct home *h, sqlite3 *db, struct err *e);
void continuity_fini(struct continuity *c); /* before the database is closed */
/* Counts a commit, within its transaction. Returns a code of SQLite. */
int continuity_count(struct continuity *c);
/* The transaction was committed: the mark follows. */
void continuity_committed(struct continuity *c);

/* For readers, while others may write. ERR_REFUSED: the text says what the database lacks. db NULL: the database cannot be opened,
 * or is not there. */
int continuity_check(const struct continuity_of *of, const struct home *h, sqlite3 *db, struct err *e);
/* Forgets the mark: whatever database is there is the right one from now on. To be called while nobody uses it. */
int continuity_forget(const struct continuity_of *of, const struct home *h, struct err *e);

/* For a copy of a database, which is to be taken for the right one where it is put: the text of its mark, and the mark's path in a
 * home. Empty: it has no id yet. */
enum { CONTINUITY_MARK_SIZE = 64 };
const char *continuity_mark_path(const struct continuity_of *of);
const char *continuity_mark_text(sqlite3 *copy, char out[CONTINUITY_MARK_SIZE]);

#endif
