/* The ledger for readers: whoever shows what is in it, while batchmgr writes, and while nothing runs. */
#ifndef SIMBDP_QUERY_LEDGER_VIEW_H
#define SIMBDP_QUERY_LEDGER_VIEW_H

#include "base/err.h"
#include "host/home.h"

#include <sqlite3.h>

/* Opens it, with the instances of stream apps beside it (streams.instances, an empty table in a home in which streammgr never ran),
 * and with the function words() (words.h). Nothing can be changed over it. -ENOENT: the home never ran and has no ledger;
 * ERR_FORMAT: it cannot be read; the text names the file. Waits for a lock of somebody else's wait_ms at most. sqlite3_close. */
int ledger_view_open(const struct home *h, int wait_ms, sqlite3 **ret, struct err *e);

#endif
