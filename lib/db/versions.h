/* The versions of a home's databases, and whether this version of the platform may start on them. docs/compatibility.md lists all
 * formats. */
#ifndef SIMBDP_DB_VERSIONS_H
#define SIMBDP_DB_VERSIONS_H

#include "host/home.h"

#include <sqlite3.h>

enum {
    VERSION_LEDGER = 7,  /* state/ledger.db, "schema_version" in the table meta (programs/batchmgr/ledger_schema.c) */
    VERSION_STREAMS = 1, /* state/streams.db, user_version; 0: of a version before it had one (programs/streammgr/instances_db.c) */
    VERSION_ACCOUNTS = 1, /* state/accounts.db, user_version (lib/accounts/accounts.c) */
};

/* What is refused everywhere in the same words: `what` (a path) has version `has`, and this program knows `known`. ERR_VERSION. */
int version_refused(const char *what, int64_t has, int64_t known, struct err *e);

/* The user_version of an open database, or -EIO. */
int64_t version_of_db(sqlite3 *db);

/* For who starts the home's programs, before the first of them may change anything: ERR_VERSION where a database, or the broker's
 * log, is of a newer version; the text names the file, both versions, and what to do. 0 also where a file is not there or cannot be
 * read: that is for its owner to tell, or to make. Changes nothing; blocks for the reads. */
int versions_check(const struct home *h, struct err *e);

#endif
