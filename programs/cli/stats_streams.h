/* mysimbdp stats --streams: a line for each stream app and UTC day. */
#ifndef SIMBDP_CLI_STATS_STREAMS_H
#define SIMBDP_CLI_STATS_STREAMS_H

#include "cli.h"

#include <sqlite3.h>

/* Prints from the day of since_ms on. db NULL: there is no ledger yet. tenant NULL: all. */
void stats_streams(struct cli *c, const struct home *h, sqlite3 *db, const char *tenant, int64_t since_ms);

/* Of table tenants: what a tenant that was moved away left here is the other home's to count, until it is purged. */
#define NOT_MOVED "((suspended & 4)=0 OR purging=2)"

#endif
