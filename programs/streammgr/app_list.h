/* What streammgr knows of the apps, as `mysimbdp app list` shows it. */
#ifndef SIMBDP_STREAMMGR_APP_LIST_H
#define SIMBDP_STREAMMGR_APP_LIST_H

#include "base/buf.h"

struct streammgr;

/* Adds the apps that have an executable (of a tenant; NULL: of all) as elements of a JSON array. */
void app_list_print(struct streammgr *m, struct buf *out, const char *tenant);

#endif
