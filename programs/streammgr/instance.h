/* The life of an instance: a row in the book -> its spec to the warden -> claimed, started, ended, each said by its runner
 * (lib/manager/run_handle.h) -> the row's end -> the runner acknowledged. How it is told to go: drain.h. */
#ifndef SIMBDP_STREAMMGR_INSTANCE_H
#define SIMBDP_STREAMMGR_INSTANCE_H

#include "model.h"

#include "base/err.h"

struct instances_db_row;
struct run_result;

/* What becomes of an app when an instance of it is no more; for whoever is above this module (streammgr.h). */
struct instance_events {
    /* It ended. It is in its app's list no more, and the book has its end. */
    void (*ended)(struct instance *i, const struct run_result *res);
    /* It was not started, for reasons of ours; not before delay_ms is another worth trying. It is in the list still. */
    void (*cancelled)(struct instance *i, int64_t delay_ms);
    /* Nobody hears the node that its job is on, and Slurm has given it up. It is in the list still, and not charged. */
    void (*unheard)(struct instance *i);
    /* After the first two, once it is freed. */
    void (*gone)(struct streammgr *m);
};

/* Starts one, for an ask or NULL; the app is configured. On the loop; writes the book. On failure nothing is left of it, and the
 * log has why. */
int instance_start(struct app *a, const struct ask *ask, struct err *e);
/* Takes up one of the book, whose runner is not looked for yet. */
void instance_take_up(struct app *a, const struct instances_db_row *b);
/* It runs, and takes messages if any of the app's does. */
bool instance_is_ready(const struct instance *i);
/* Lets go of all of the app's; they go on running. */
void instances_let_go(struct app *a);

/* A new instance that works for so long may take the place of an old one. */
enum { INSTANCE_READY_MS = 1000 };

#endif
