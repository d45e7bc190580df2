/* One upload on its way to being a version of an app. What lies where: host/app_version.h, and while it is built
 *   state/appstore/<tenant>.<app>/<id>/upload          a copy of the upload
 *   state/appstore/<tenant>.<app>/<id>/unpack, python  runs (build.h)
 *   apps/<tenant>/.versions/<app>/.new-<id>            the version, until it is whole
 *
 * When this process ends before that, nothing has the version's name, and its manifest says `building` though nobody holds the
 * app's lock: it may be uploaded again, and the next upload removes what is left. */
#ifndef SIMBDP_APPSTORE_PUSH_H
#define SIMBDP_APPSTORE_PUSH_H

#include "appstore/activation.h"
#include "appstore/manifest.h"
#include "conf/conf.h"

struct push {
    const struct home *home;
    const struct conf *conf;
    const struct conf_tenant *tenant;
    const char *app;
    const char *path;    /* of the upload; "-": stdin */
    const char *version; /* which one it has to be; NULL: whatever it is */
    const char *by;
};

/* *ret is filled as far as it got, *ret_app as the configuration has it; 0: the version is ready, and durable (*ret_again: it was
 * before). ERR_REFUSED (err_refuse) with the reasons of activation.h and build.h, too_large, digest, max_app_versions; other errors
 * are the platform's. Blocks as long as it takes. */
int push(const struct push *p, struct manifest *ret, bool *ret_again, struct err *e);

#endif
