/* The rows of stream apps: a collection has at least as many documents that no file stored as the apps that store into it, by
 * `builtin:load` or an output mode, said with their acknowledgements (the broker keeps count). By app nothing can be told: a
 * subscription's rows lie under as many epochs as its stream ever had, and old ones are forgotten. */
#ifndef SIMBDP_CLI_VERIFY_STREAMS_H
#define SIMBDP_CLI_VERIFY_STREAMS_H

#include "verify_count.h"
#include "verify_rows.h"

/* What the broker counted, as the answer to `queues`; to be had before anything is counted in MongoDB, where more may come. NULL:
 * it is not to be had, which was said on stderr. The caller destroys. Blocks. */
bson_t *streams_counted(const struct home *h);
void verify_streams(struct verify_rows *v, const struct conf *conf, struct counts *counts, const bson_t *counted);

#endif
