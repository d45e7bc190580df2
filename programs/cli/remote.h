/* The same verbs for a tenant's own machine, over HTTP: simbdp-remote has them. */
#ifndef SIMBDP_CLI_REMOTE_H
#define SIMBDP_CLI_REMOTE_H

#include <stdbool.h>

/* Whether a gateway is meant: by --url or --profile, by MYSIMBDP_URL or MYSIMBDP_PROFILE, or since no home is given and there are
 * profiles. */
bool remote_is_meant(int argc, char *const *argv);
/* The same where no verb says otherwise. */
bool remote_is_preferred(void);
/* Whether the verb is here and there. */
bool remote_is_shared(const char *verb);
/* Executes simbdp-remote with these arguments. Returns an exit code only when that failed, after a complaint. */
int remote_execute(char **argv);

#endif
