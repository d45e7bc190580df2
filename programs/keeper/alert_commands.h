/* Commands of alerts: the provider's, run as the provider, without a shell; a few at once, none for long. */
#ifndef SIMBDP_KEEPER_ALERT_COMMANDS_H
#define SIMBDP_KEEPER_ALERT_COMMANDS_H

#include <stdbool.h>

struct alert_commands;

struct alert_commands *alert_commands_new(void);
void alert_commands_free(struct alert_commands *h); /* those that run are killed; NULL is fine */

/* Runs it when there is room, with `json` on stdin. Failures are logged under the alert's name. */
void alert_commands_run(struct alert_commands *h, const char *alert, const char *command, const char *json);
/* Those that ended, or take too long; and starts what waits. */
void alert_commands_reap(struct alert_commands *h);
bool alert_commands_are_going(const struct alert_commands *h);

#endif
