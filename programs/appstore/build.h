/* What is done with an upload in sandboxes: an archive is unpacked by a uid that owns nothing, and what a requirements.txt names is
 * installed by the tenant's, since it may run the tenant's code. Each is a run of the platform's own (run/alone.h) with limits. */
#ifndef SIMBDP_APPSTORE_BUILD_H
#define SIMBDP_APPSTORE_BUILD_H

#include "conf/conf.h"
#include "host/home.h"
#include "host/isolation.h"

struct build {
    const struct home *home;
    const struct conf *conf;
    const struct conf_tenant *tenant;
    const struct conf_profile *profile; /* the app's: what installing may reach on the network */
    const struct isolation_host *isolation;
    const char *id;   /* of a run; the second one has a letter more */
    const char *path; /* of `dir`, absolute */
    int dir;          /* where runs have their directories, and the upload lies as "upload" */
};

/* Unpacks the upload. A descriptor of the directory, whose owner is somebody else; ERR_REFUSED (err_refuse: archive, max_app_bytes,
 * max_app_files, max_app_build_s): the archive is refused; else negative: it could not be tried. Blocks. */
int build_unpack(const struct build *b, struct err *e);

/* Installs what tree/requirements.txt names. A descriptor as above; ERR_REFUSED likewise, reason requirements. */
int build_python(const struct build *b, const char *tree_path, struct err *e);

#endif
