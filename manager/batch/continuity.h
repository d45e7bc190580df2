/* Whether a ledger is the one that the home had, and knows all that it knew: a ledger that was deleted, emptied, restored from an
 * older copy or lost its -wal opens as well as any, and would take what was stored for unknown.
 *
 * The ledger has an id and counts its commits (its table `continuity`, of one row); state/continuity says both again, one line
 *   <id> <commits, 20 digits>\n
 * (HOME_CONTINUITY) that is overwritten behind each commit and not synced: a power cut may leave it behind the ledger, never ahead.
 */
#ifndef SIMBDP_CONTINUITY_H
#define SIMBDP_CONTINUITY_H

#include "common/home.h"

#include <sqlite3.h>
#include <stdint.h>

struct continuity {
    int fd; /* -1: none */
    char id[ID_SIZE];
    int64_t commits;
    sqlite3_stmt *bump; /* within the transaction */
};

/* Before it is opened: a ledger that is not there, or empty, in a home that had one is ERR_REFUSED, as below. */
int continuity_look(const struct home *h, struct err *e);
/* Gives a new ledger its id, and compares an older one. ERR_REFUSED: it lacks what the home had; the text says what and what to do.
 * Blocks for small files. What was begun is ended by continuity_fini, also on failure. */
int continuity_init(struct continuity *c, const struct home *h, sqlite3 *db, struct err *e);
void continuity_fini(struct continuity *c);
/* In a transaction: it counts. A code of SQLite. */
int continuity_count(struct continuity *c);
/* The transaction was committed. */
void continuity_committed(struct continuity *c);

#endif
