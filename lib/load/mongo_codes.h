/* What codes of a MongoDB's errors mean. */
#ifndef SIMBDP_LOAD_MONGO_CODES_H
#define SIMBDP_LOAD_MONGO_CODES_H

#include <stdbool.h>
#include <stdint.h>

enum { MONGO_OUT_OF_DISK_SPACE = 14031 };

/* Whether the same may succeed a moment later: those of the drivers' specification of retryable writes, and what a server or a
 * router (mongos) says when it may. */
bool mongo_passes(int64_t code);

#endif
