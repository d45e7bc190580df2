/* The verbs of a tenant's own uid, on the provider's machine: what they show comes from the desk (programs/desk), since the home is
 * not theirs to read. The output is that of the same verbs for the provider, about that tenant. */
#ifndef SIMBDP_CLI_DESK_H
#define SIMBDP_CLI_DESK_H

#include "cli.h"

/* Whether who calls may not read the home, and there is a desk to ask; then c->desk is its socket. */
bool cli_desk(struct cli *c);
/* The verb as the desk does it; NULL: it does not. */
cli_verb cli_verb_of_desk(const char *verb);

#endif
