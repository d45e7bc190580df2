/* When an app whose instances end by themselves gets the next one: after a delay that doubles, and not at all while it is parked,
 * since it failed too often or cannot be executed. */
#ifndef SIMBDP_STREAMMGR_RESTART_H
#define SIMBDP_STREAMMGR_RESTART_H

#include "model.h"

struct run_result;

/* An instance ended by itself: when is the next worth trying, or is the app parked? */
void restart_note_failure(struct app *a, const struct instance *i, const struct run_result *res);
/* No instance until the executable, the image or the configuration changes, or until_ms (monotonic; 0: none) has come. */
void restart_park(struct app *a, int64_t until_ms, const char *why);
/* Forgets why an app was parked, and its failures. */
void restart_forgive(struct app *a);
/* A parked app whose executable changed, or whose time is over, may try again. */
void restart_unpark_if_due(struct app *a);

#endif
