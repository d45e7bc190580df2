/* Threads that send files, as many as are to be under way at once. */
#ifndef SIMBDP_REMOTE_SENDERS_H
#define SIMBDP_REMOTE_SENDERS_H

#include "items.h"
#include "send.h"

struct senders;

/* Starts n threads, which send all items that are ITEM_READY, in order. All is borrowed until senders_end. */
struct senders *senders_start(const struct target *target, const struct send_order *o, struct items *all, int n);
/* Waits until something changed, at most ms. False: all have ended. */
bool senders_wait(struct senders *s, int64_t ms);
/* What is of an item that several threads look at: the others wait meanwhile. */
void senders_lock(struct senders *s);
void senders_unlock(struct senders *s);
void senders_end(struct senders *s); /* waits for the threads */

#endif
