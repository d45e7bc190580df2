/* When queued files go to the scheduler: triggers (cron, manual) hold them back until they are released, groups let them wait for
 * each other. A file that was released once stays so: retries wait for nobody.
 *
 * Held files are `queued` with the reason "trigger"; what is kept here is only their order, so that a restart loses nothing: a
 * cron time that passed while batchmgr was down releases at start what had arrived before it. */
#ifndef SIMBDP_BATCHMGR_RELEASE_H
#define SIMBDP_BATCHMGR_RELEASE_H

#include "model.h"

#include "conf/conf.h"

struct batchmgr;

/* A queued file whose app is `app`: held, put to others, or handed to the scheduler. */
void release_add(struct batchmgr *m, struct file *f, const struct conf_batch *app);
/* Takes a waiting file out; false when it does not wait here. */
bool release_remove(struct batchmgr *m, struct file *f);
/* Empties everything, calling fn with each file (the configuration changed, the tenant goes). NULL: every tenant. */
void release_drain(struct batchmgr *m, const char *tenant, void (*fn)(void *arg, struct file *f), void *arg);

/* Lets everything go that waits for the app; the number of files. */
int64_t release_app(struct batchmgr *m, const char *tenant, const char *app);

/* Files that wait here; tenant NULL: all. */
size_t release_n(const struct batchmgr *m, const char *tenant);
void release_start(struct batchmgr *m);
void release_stop(struct batchmgr *m);

#endif
