/* Which version of an app is active: changed below a lock of the tenant's, durably, and seen by managers at the next start of a
 * run. An instance of another version is replaced as one of another executable is (programs/streammgr/rolling_update.h).
 *
 * `app` is of the tenant's configuration. Errors are refusals (err_refuse) with the reason not_found, no_app, state, busy; or
 * -errno, ERR_FORMAT where a file of the store is damaged. All of it blocks for syncs, and up to a second for the lock. */
#ifndef SIMBDP_APPSTORE_ACTIVATION_H
#define SIMBDP_APPSTORE_ACTIVATION_H

#include "conf/conf.h"
#include "host/app_version.h"

/* What the configuration says of an app, batch or stream. */
struct appstore_app {
    const char *name, *exec, *checker, *image, *profile; /* borrowed from the configuration */
};
/* Reason no_app: there is none, or its executable is not one that can be uploaded (built in, absolute, or none). */
int appstore_app_of(const struct conf_tenant *t, const char *app, struct appstore_app *ret, struct err *e);

/* Whether the directory has what the app executes: a regular file with the right to be executed at `exec`. Reason no_exec. */
int appstore_check_exec(const struct appstore_app *a, int dirfd, struct err *e);

/* *ret: what holds then. The version has to be ready, and to have the app's executable. */
int appstore_activate(const struct home *h, const struct conf_tenant *t, const char *app, const char *version,
                      struct app_active *ret, struct err *e);
/* To the version that was active before the active one was; state: there is none. What lies in apps/<tenant>/ itself is no version,
 * and is not gone back to. */
int appstore_rollback(const struct home *h, const struct conf_tenant *t, const char *app, struct app_active *ret, struct err *e);
/* Of a version that is not active, and of what is left of one that was refused. Reason in_use: runs execute it, which the error
 * names; nothing of it is changed then. A killed removal left either all of it, or nothing that has its name. */
int appstore_remove(const struct home *h, const struct conf_tenant *t, const char *app, const char *version, struct err *e);

/* Keeps runs from beginning with that version until the descriptor is closed. Reason in_use: as above. The app has versions. */
int appstore_seize(const struct home *h, const char *tenant, const char *app, const char *version, struct err *e);

/* How the name of a directory begins that is no version yet, or none any more: swept by the next upload. */
#define APPSTORE_NEW ".new-"

/* The lock of the app's uploads, one at a time; held until the descriptor is closed. Reason busy: one is going on. */
int appstore_lock_build(const struct home *h, const char *tenant, const char *app, struct err *e);
bool appstore_is_building(const struct home *h, const char *tenant, const char *app);

#endif
