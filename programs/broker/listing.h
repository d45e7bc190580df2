/* What there is, as JSON: streams, consumers, dead letters. For the control socket, and without it (`broker --list`). */
#ifndef SIMBDP_BROKER_LISTING_H
#define SIMBDP_BROKER_LISTING_H

#include "broker.h"

enum { LISTING_MAX_DEAD = 10000, DEAD_ID_SIZE = 64 };

/* Each of these adds objects to an array that is being written. tenant NULL: of any. */
void listing_streams(struct broker *b, struct buf *out, const char *tenant);
/* Adds the tenant's streams as the tenant is told of them, each with who consumes it: docs/openapi.yaml, Stream. NULL: all; else
 * how many have that name. */
size_t listing_of_tenant(struct broker *b, struct buf *out, const char *tenant, const char *stream);

/* A dead letter's name within its stream: SEQUENCE.APP. */
void listing_dead_id(char ret[DEAD_ID_SIZE], uint64_t seq, const char *app);
/* ret_app points into id. False: it is none. */
bool listing_read_dead_id(const char *id, uint64_t *ret_seq, const char **ret_app);

struct dead_asked {
    const char *tenant, *stream, *app; /* NULL: any */
    uint64_t after;                    /* those of each stream behind this sequence, */
    const char *after_app;             /* and those with it of apps whose name comes behind this one; NULL: none */
    int64_t limit;
    bool bounded; /* no more either once the messages that were read are large */
};
/* By rising sequence, then app. True: there are more. ret_last: the last one's id, where there was one. Reads messages from the
 * disk. */
bool listing_dead(struct broker *b, struct buf *out, const struct dead_asked *asked, char ret_last[DEAD_ID_SIZE]);
/* What streammgr needs to know of its instances: who is idle, and who hangs. */
void listing_consumers(struct broker *b, struct buf *out);

/* Calls fn for each subscription that is meant; how many. NULL: any. */
size_t listing_each_sub(struct broker *b, const char *tenant, const char *stream, const char *app,
                        void (*fn)(struct broker_sub *bs, void *arg), void *arg);

#endif
