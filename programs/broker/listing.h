/* What there is, as JSON: streams, consumers, dead letters. For the control socket, and without it (`broker --list`). */
#ifndef SIMBDP_BROKER_LISTING_H
#define SIMBDP_BROKER_LISTING_H

#include "broker.h"

enum { LISTING_MAX_DEAD = 10000 };

/* Each of these adds objects to an array that is being written. NULL: of any tenant, stream, app. */
void listing_streams(struct broker *b, struct buf *out, const char *tenant);
/* Those with a sequence above `after`, at most `limit`. True: there are more. */
bool listing_dead(struct broker *b, struct buf *out, const char *tenant, const char *stream, const char *app, uint64_t after,
                  int64_t limit);
/* What streammgr needs to know of its instances: who is idle, and who hangs. */
void listing_consumers(struct broker *b, struct buf *out);

/* Calls fn for each subscription that is meant; how many. NULL: any. */
size_t listing_each_sub(struct broker *b, const char *tenant, const char *stream, const char *app,
                        void (*fn)(struct broker_sub *bs, void *arg), void *arg);

#endif
