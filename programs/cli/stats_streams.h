/* mysimbdp stats --streams: a line for each stream app and UTC day. */
#ifndef SIMBDP_CLI_STATS_STREAMS_H
#define SIMBDP_CLI_STATS_STREAMS_H

#include "cli.h"

#include <sqlite3.h>

/* Prints from the day of since_ms on. db NULL: there is no ledger yet. tenant NULL: all. */
void stats_streams(struct cli *c, const struct home *h, sqlite3 *db, const char *tenant, int64_t since_ms);

#endif
