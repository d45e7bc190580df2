/* What the home remembers of MongoDBs that are not its own: state/mongo.marks, whose format is in
 * programs/batchmgr/database_identity.h. */
#ifndef SIMBDP_CLI_MARKS_H
#define SIMBDP_CLI_MARKS_H

#include "host/home.h"

/* Calls fn for each database that was another one, or lacked something, when it was looked at last. why: for people, with what to
 * do. Blocks for a small file. */
void marks_each_lost(const struct home *h, void (*fn)(void *arg, const char *tenant, const char *why), void *arg);

#endif
