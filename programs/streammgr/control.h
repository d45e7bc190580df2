/* streammgr's control socket (its requests: control.c). */
#ifndef SIMBDP_STREAMMGR_CONTROL_H
#define SIMBDP_STREAMMGR_CONTROL_H

#include "base/err.h"

struct streammgr;

int control_start(struct streammgr *m, struct err *e);
void control_stop(struct streammgr *m);
/* An instance is gone: who waits for the last one gets its answer. */
void control_check_drained(struct streammgr *m);

#endif
