/* Once per turn of the event loop: dispatches runs, however many reasons there were, and ends the program when a drain is over. */
#ifndef SIMBDP_BATCHMGR_TURN_H
#define SIMBDP_BATCHMGR_TURN_H

#include <stddef.h>

struct batchmgr;

struct turn_ops {
    void (*dispatch)(struct batchmgr *m);
    size_t (*n_runs)(const struct batchmgr *m); /* that have not ended */
    void (*drained)(struct batchmgr *m);        /* no run is left: whoever waits for that is told, and the loop ends soon after */
};

void turn_start(struct batchmgr *m, const struct turn_ops *ops); /* ops are borrowed */
void turn_stop(struct batchmgr *m);

/* Runs are dispatched once more at the end of this turn. */
void turn_kick(struct batchmgr *m);
/* A run or a file ended: it may have been the last that a drain waits for. */
void turn_check_quit(struct batchmgr *m);

#endif
