/* Apps that could not be executed: nothing of theirs is started until their executable, their image or the configuration changes,
 * or somebody says so. Not kept over a restart: what still cannot be executed is parked again by the next file. */
#ifndef SIMBDP_BATCHMGR_PARKING_H
#define SIMBDP_BATCHMGR_PARKING_H

#include "model.h"

#include "conf/conf.h"

struct batchmgr;

struct parking;

/* m is borrowed. Looks once a second whether what parks an app has changed. */
struct parking *parking_new(struct batchmgr *m);
void parking_free(struct parking *p); /* accepts NULL */

/* The run's app; app NULL: it is not configured any more, and nothing is to be parked. */
void parking_add(struct parking *p, const struct run *r, const struct conf_batch *app);
/* Lets one tenant's (NULL: all tenants'), and of these one app (NULL: all), or only those that changed, run again. p NULL: there is
 * nothing parked yet. */
void parking_lift(struct parking *p, const char *tenant, const char *app, bool only_changed);
/* "TENANT/APP" of each, as members of the array that is being written. */
void parking_list(const struct parking *p, struct buf *out);

#endif
