/* Moves output, result and rejects file out of the app's directory when a step is over. No process of the run is left then, but
 * other runs of the tenant have the same uid, and may change the directory meanwhile. */
#ifndef SIMBDP_RUNNER_COLLECT_H
#define SIMBDP_RUNNER_COLLECT_H

#include "step.h"

/* Gives complete output its final name; what is wrong with it becomes the outcome. */
void take_output(struct runner *r, struct outcome *o);
/* What the app says of itself (result.json), and its rejects file. */
void take_app_result(struct runner *r);

#endif
