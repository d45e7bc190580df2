/* simbdp-kafka (programs/kafka/), which this keeper starts for the broker. */
#ifndef SIMBDP_KEEPER_KAFKA_H
#define SIMBDP_KEEPER_KAFKA_H

#include "base/err.h"
#include "host/home.h"

struct kafka_keeper;

struct kafka_keeper *kafka_keeper_new(const struct home *h);
void kafka_keeper_free(struct kafka_keeper *k); /* NULL is fine */
/* By what the configuration says now; the one before is ended. A socket to it, or negative. */
int kafka_keeper_start(struct kafka_keeper *k, struct err *e);

#endif
