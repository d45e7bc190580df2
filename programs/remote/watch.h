/* Listings that go on: each row as it changes. */
#ifndef SIMBDP_REMOTE_WATCH_H
#define SIMBDP_REMOTE_WATCH_H

#include "remote.h"

#include "query/records.h"

/* Prints files or runs as their states change, from now on, until nobody reads them. query: "k=v&k=v" or "". dataset: the only one
 * of it, or NULL. REMOTE_DONE, or the exit code after a complaint. */
int watch_records(struct remote *r, const struct records *of, const char *query, const char *dataset);

#endif
