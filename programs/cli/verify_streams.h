/* Rows of stream apps. A collection must have at least as many documents that no file stored as rows were acknowledged by the apps
 * that store there with `builtin:load` or an output mode (the broker keeps count). No comparison app by app is possible: a
 * subscription's rows lie under as many epochs as its stream ever had, and old epochs are forgotten.
 *
 * Of a home that was restored from a backup it is noted, too, what the collections have beyond that. */
#ifndef SIMBDP_CLI_VERIFY_STREAMS_H
#define SIMBDP_CLI_VERIFY_STREAMS_H

#include "verify_count.h"
#include "verify_rows.h"

/* What the broker counted, as its answer to `queues`. To be asked before anything is counted in MongoDB, where more may arrive.
 * NULL: it could not be had, which was said on stderr. The caller destroys it. Blocks. */
bson_t *streams_counted(const struct home *h);
void verify_streams(struct verify_rows *v, const struct conf *conf, struct counts *counts, const bson_t *counted);

#endif
