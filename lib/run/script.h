/* What a script's first line says. */
#ifndef SIMBDP_RUN_SCRIPT_H
#define SIMBDP_RUN_SCRIPT_H

#include <stdbool.h>

/* Whether the file is a script ("#!") whose first line ends with CRLF: the kernel then looks for an interpreter whose name ends
 * with a carriage return. False also where it cannot be read without following a link. */
bool script_has_crlf(const char *path);

/* What to tell a person of such a script, behind its path. */
#define SCRIPT_CRLF                                                                                                                \
    "its lines end with CRLF, so its interpreter's name ends with a carriage return; `sed -i 's/\\r$//' FILE` takes them out"

#endif
