/* The configuration, read again. */
#ifndef SIMBDP_STREAMMGR_RELOAD_H
#define SIMBDP_STREAMMGR_RELOAD_H

#include "base/err.h"

struct streammgr;

/* On failure the log has why; a configuration that cannot be loaded leaves the one that is in force. May end the program: where the
 * new configuration names directories that its mount namespace lacks, `up` starts it again. */
int streammgr_reload(struct streammgr *m, struct err *e);

#endif
