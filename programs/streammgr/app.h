/* How many instances an app should have, whether there is room for one more, and when one that failed is worth trying again. */
#ifndef SIMBDP_STREAMMGR_APP_H
#define SIMBDP_STREAMMGR_APP_H

#include "model.h"

struct conf_profile;
struct conf_stream_app;
struct conf_tenant;
struct run_result;

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
/* What our code in an instance said of its end, in its result file, where nobody else says why; the tenant may have written it. */
void app_take_words(struct run_result *res);
/* An instance ended by itself: when is the next worth trying, or is the app parked? */
void app_note_failure(struct app *a, const struct instance *i, const struct run_result *res);
/* Forgets why an app was parked, and its failures. */
void app_forgive(struct app *a);
/* Finds out what its instances have as their root; an app whose image is not to be had is parked. */
void app_look_at_image(struct app *a);
/* A parked app whose executable changed, or whose time is over, may try again. */
void app_unpark_if_due(struct app *a);

#endif
