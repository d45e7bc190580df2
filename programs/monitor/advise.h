/* What the controller would have decided: `mysimbdp advise`. */
#ifndef SIMBDP_MONITOR_ADVISE_H
#define SIMBDP_MONITOR_ADVISE_H

#include <stdio.h>

/* Reads figures from `in`, one JSON object a line, and answers each at once on `out`, with one memory and the default settings. A
 * line that is none is answered with an error and changes nothing. 0; -EIO: it cannot write. Blocks. */
int advise(FILE *in, FILE *out);

#endif
