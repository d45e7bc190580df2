/* Commands of alerts: the provider's, run as the provider, without a shell; a few at once, none for long. */
#ifndef SIMBDP_KEEPER_HOOKS_H
#define SIMBDP_KEEPER_HOOKS_H

#include <stdbool.h>

struct hooks;

struct hooks *hooks_new(void);
void hooks_free(struct hooks *h); /* those that run are killed; NULL is fine */

/* Runs it when there is room, with `json` on stdin. Failures are logged under the alert's name. */
void hooks_run(struct hooks *h, const char *alert, const char *command, const char *json);
/* Those that ended, or take too long; and starts what waits. */
void hooks_reap(struct hooks *h);
bool hooks_are_going(const struct hooks *h);

#endif
