/* The versions of tenants' apps that were uploaded, and which of them is active: what programs/appstore writes and managers read.
 *
 *   apps/<tenant>/.versions/<app>/active.json       {"version","since_ms","before","earlier":[what rolling back leads to]}
 *   apps/<tenant>/.versions/<app>/<version>/        what was uploaded, unpacked; nobody changes it any more
 *   apps/<tenant>/.versions/<app>/<version>.json    what is known of it (lib/appstore/manifest.h)
 *
 * A version's name is the first 16 hex digits of the SHA-256 of the upload's bytes. Where one is active, the app's `exec` and
 * `checker` are paths in it; a path that it does not have, and all paths where none is active, lie in apps/<tenant>/. */
#ifndef SIMBDP_HOST_APP_VERSION_H
#define SIMBDP_HOST_APP_VERSION_H

#include "home.h"

#include <stdint.h>

enum { APP_VERSION_SIZE = 17, APP_VERSION_EARLIER_MAX = 20 };

/* In a version that has a requirements.txt: what it requires, installed; on PYTHONPATH. */
#define APP_VERSION_PYTHON ".python"

/* 16 lower-case hex digits. */
bool app_version_valid(const char *version);

/* "apps/<tenant>/.versions/<app>", and that with "/<rest>". Relative to the home; the caller frees. */
char *app_version_dir(const char *tenant, const char *app);
char *app_version_path(const char *tenant, const char *app, const char *rest);

/* The active version; "": none is. APP_VERSION_UNKNOWN: that cannot be read now, or is damaged; no file of such a version is there,
 * so nothing is run by mistake. Blocks for a small file. */
#define APP_VERSION_UNKNOWN "?"
void app_version_active(const struct home *h, const char *tenant, const char *app, char ret[APP_VERSION_SIZE]);

/* All that active.json says. 0: *ret is filled, with version "" where none is active; -errno or ERR_FORMAT. */
struct app_active {
    char version[APP_VERSION_SIZE];
    int64_t since_ms;              /* wall clock */
    char before[APP_VERSION_SIZE]; /* what was active until then; "": none */
    char earlier[APP_VERSION_EARLIER_MAX][APP_VERSION_SIZE];
    int n_earlier;
};
int app_version_read(const struct home *h, const char *tenant, const char *app, struct app_active *ret, struct err *e);

/* The absolute path that `exec` means for the app with that version active ("": none). The caller frees. Blocks for a look at the
 * directory. */
char *app_version_exec(const struct home *h, const char *tenant, const char *app, const char *version, const char *exec);

/* The same for the version that is active now. */
char *app_version_active_exec(const struct home *h, const char *tenant, const char *app, const char *exec);

#endif
