/* How many instances an app should have, and whether there is room for one more. */
#ifndef SIMBDP_STREAMMGR_APP_H
#define SIMBDP_STREAMMGR_APP_H

#include "model.h"

struct conf_profile;
struct conf_stream_app;
struct conf_tenant;

/* NULL: it is not configured, or has no executable. */
const struct conf_stream_app *app_conf(const struct app *a, const struct conf_tenant **ret_tenant);
/* What forbids any instance now, scaled or not (valid until facts are read again); NULL: nothing. */
const char *app_obstacle(const struct app *a);
/* How many instances there should be now, beside those of asks, and why not more (as above; NULL: nothing forbids it). */
int64_t app_target(struct app *a, const char **ret_why);
/* Whether stream_pct of the capacity has room for one more of these. */
bool app_has_capacity(const struct app *a, const struct conf_profile *p);
/* Changes when its checker does; 0: it has none. */
int64_t app_checker_identity(const struct app *a);
/* Finds out what its instances have as their root; an app whose image is not to be had is parked. */
void app_look_at_image(struct app *a);

#endif
