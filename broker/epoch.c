/* Which epoch a message has for a subscription: half of the _id that its rows are stored under (docs/wire.md), the same whenever it
 * is delivered.
 *
 * It is made of the stream's epoch and the subscription's name, so that two apps may store what they make of one stream into one
 * collection, and a subscription that is made anew under its old name finds its rows again. Subscriptions of earlier versions had
 * the stream's own; what was published until they were first opened by a version that knows this (`shared_below`) keeps it: some
 * of it may be stored, and not be acknowledged yet. */
#include "queue_parts.h"

#include <sodium.h>
#include <string.h>

struct range sub_epoch(const struct sub *s, uint64_t seq, unsigned char ret[QUEUE_EPOCH])
{
    bool shared = seq < s->shared_below;
    if (shared)
        memcpy(ret, s->stream->epoch, QUEUE_EPOCH);
    else
        crypto_generichash(ret, QUEUE_EPOCH, (const unsigned char *)s->name, strlen(s->name), s->stream->epoch, QUEUE_EPOCH);
    return shared ? (struct range){1, s->shared_below - 1} : (struct range){s->shared_below, UINT64_MAX};
}
