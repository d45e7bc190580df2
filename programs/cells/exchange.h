/* One request and its answer, between two connections. */
#ifndef SIMBDP_CELLS_EXCHANGE_H
#define SIMBDP_CELLS_EXCHANGE_H

#include "channel.h"
#include "head.h"

enum exchanged {
    EXCHANGED_ALL,     /* both whole; both connections may go on */
    EXCHANGED_LAST,    /* the answer whole; the client's connection ends */
    EXCHANGED_NOTHING, /* nothing of an answer reached the client: it can be told */
    EXCHANGED_BROKEN,  /* the client has a part of an answer */
};

struct exchange {
    struct channel *client, *cell;
    struct head *request; /* its head, which was sent to the cell; its body comes from the client */
    bool is_head;
    int64_t idle_ms, answer_ms;
    bool closes; /* the client's connection is to end in any case */
    /* of EXCHANGED_NOTHING */
    bool timed_out;             /* else it broke, or what came was no answer */
    bool had_any;               /* of the answer's bytes */
    bool client_left, bad_body; /* or it was the client's fault */
    bool cell_closes;
};

/* Blocks; bytes go both ways meanwhile. */
enum exchanged exchange_run(struct exchange *x);

#endif
