/* The truth about a step's end: result.json. */
#ifndef SIMBDP_RUNNER_RESULT_H
#define SIMBDP_RUNNER_RESULT_H

#include "step.h"

#include "base/err.h"

/* Whether an app that could not be executed has itself to thank; one that is still being written will be whole in a moment. */
bool result_is_apps_own(const struct child_failure *f);
/* Fills r->result from the evidence, and takes output and words from the tenant. Nothing of the run is left. */
void result_make(struct runner *r);
/* Writes it into the space that was reserved, and gives it its name: the step's end survives its runner from then on. */
int result_write(struct runner *r, struct err *e);

#endif
