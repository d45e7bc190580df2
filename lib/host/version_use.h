/* Who uses which uploaded version of an app (app_version.h), so that none is removed while a run may still read it.
 *
 * apps/<tenant>/.versions/<app>/.use.lock has a byte for each version there may be. The runner of a run that executes a version has
 * a read lock on its byte until it ends, however it ends; who removes the version has the write lock until nothing has its name any
 * more. Both are locks of an open file (F_OFD_SETLK): nobody waits, and the kernel releases those of the dead. The file is the
 * platform's alone (0600), so no process of the tenant's can hold up a run or a removal. Which runs those are, the locks that their
 * runners have in the run-time directory say (<claim>.lock). */
#ifndef SIMBDP_HOST_VERSION_USE_H
#define SIMBDP_HOST_VERSION_USE_H

#include "home.h"

#include <stddef.h>

enum { VERSION_USE_MAX = 5 };

/* For a run. homefd: the home; claim_lock: its own lock file, open for writing, which then says what it uses. A descriptor that
 * holds the version until it is closed; -ENOENT: there is no such version (any more); -EBUSY: it is just being removed; another
 * -errno. */
int version_use_hold(int homefd, const char *tenant, const char *app, const char *version, int claim_lock);

/* For who removes it: a descriptor that keeps runs from beginning with it until it is closed. -EBUSY: a run has it; or another
 * -errno. The app has a directory of versions. */
int version_use_seize(const struct home *h, const char *tenant, const char *app, const char *version);

/* Runs that use it: up to VERSION_USE_MAX ids. Returns how many there are in all; one may have ended, or begun, meanwhile. Reads a
 * small file for each run that is going. */
size_t version_use_runs(const struct home *h, const char *tenant, const char *app, const char *version,
                        char ret[VERSION_USE_MAX][ID_SIZE]);

#endif
