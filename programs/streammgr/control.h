/* streammgr's control socket (its requests: control.c). */
#ifndef SIMBDP_STREAMMGR_CONTROL_H
#define SIMBDP_STREAMMGR_CONTROL_H

#include "base/buf.h"
#include "base/err.h"

struct streammgr;

int control_start(struct streammgr *m, struct err *e);
void control_stop(struct streammgr *m);
/* What streammgr knows of the apps (tenant NULL: of all), as `mysimbdp app list` shows it: elements of a JSON array. */
void control_print_apps(struct streammgr *m, struct buf *out, const char *tenant);
/* An instance is gone: who waits for the last one gets its answer. */
void control_check_drained(struct streammgr *m);

#endif
