/* What streammgr knows of the apps: as `mysimbdp app list` shows it, and as tenants are told of it. */
#ifndef SIMBDP_STREAMMGR_APP_LIST_H
#define SIMBDP_STREAMMGR_APP_LIST_H

#include "base/buf.h"

struct conf_tenant;
struct streammgr;

/* Adds the apps that have an executable (of a tenant; NULL: of all) as elements of a JSON array. */
void app_list_print(struct streammgr *m, struct buf *out, const char *tenant);
/* Adds "apps" and "instances" to an object (docs/openapi.yaml, Instances): of the tenant's apps that have an executable, or of the
 * one with that name; NULL: all. Reads the book. */
void app_list_of_tenant(struct streammgr *m, struct buf *out, const struct conf_tenant *t, const char *app);

#endif
