/* What the store's keeper (programs/keeper/store.h) is asked, and what it has others do, which takes a while. */
#ifndef SIMBDP_GATEWAY_STORE_JOB_H
#define SIMBDP_GATEWAY_STORE_JOB_H

#include "gateway.h"

#include "base/json.h"

struct request;

/* Begins a question about the request's tenant and app, with the ticket of who asks; more keys may follow. */
void store_begin(const struct request *rq, const char *verb, struct buf *b);
/* Ends it, and sends it. False: too many wait, and that was answered. */
bool store_ask(struct request *rq, struct buf *b, keeper_answer_fn *fn, void *arg);

/* One that goes on. Zeroed before; `rq`, `done`, `late` and `arg` are the caller's. It waits, and one of both is called, once. */
struct store_job {
    struct request *rq;
    void (*done)(void *arg, const bson_t *doc); /* what came of it; NULL: that is not known */
    void (*late)(void *arg);                    /* it goes on, for longer than a client waits */
    void *arg;
    struct event *ev;
    int64_t until_ms, look_ms;
    char id[ID_SIZE];
};
void store_job_follow(struct store_job *j, const char *id);
void store_job_fini(struct store_job *j);

#endif
