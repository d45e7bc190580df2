/* What is there against what should be, whenever something changed and once a second: the difference is started, or told to go. One
 * that ended by itself is started again: at once the first time, then after a delay that doubles (app.h). */
#ifndef SIMBDP_STREAMMGR_RECONCILE_H
#define SIMBDP_STREAMMGR_RECONCILE_H

#include "model.h"

struct run_result;

/* All apps; those that need their first instance come first. */
void reconcile_all(struct streammgr *m);
void reconcile_app(struct app *a);

/* As instance_events want it (instance.h): what the end means for its ask or its app, and what is to follow. */
void reconcile_on_ended(struct instance *i, const struct run_result *res);
void reconcile_on_unheard(struct instance *i); /* another takes its place */
void reconcile_on_cancelled(struct instance *i, int64_t delay_ms);

#endif
