/* What a tenant configures itself: conf/own/<tenant>.conf, with the lists `datasets`, `batch`, `streams` and `stream_apps` that
 * stand in the provider's file of the tenant, too, and nothing else. It is read as if it stood behind that file's lists, as far as
 * `allow` there lets the tenant, and within the agreement:
 *   - executables, checkers, images and secrets are the tenant's (relative paths);
 *   - profiles are those of `own_profiles`, or where that is empty, those that the provider's apps of the tenant have;
 *   - instances of all its own stream apps together are at most `max_own_instances`;
 *   - limits of its own streams are at most the defaults.
 * All or nothing: a file with an error is left out as a whole, and the tenant's own_error says why ("line 3: …", a line each). It
 * never keeps a configuration from being read, since the tenant wrote it; `mysimbdp tenant configure` and the gateway take none
 * that has an error. */
#ifndef SIMBDP_CONF_OWN_H
#define SIMBDP_CONF_OWN_H

#include "conf.h"

enum { CONF_OWN_MAX_BYTES = 64 << 10, CONF_OWN_MAX_ITEMS = 200 /* of each list */ };

/* conf/own/<tenant>.conf, relative to the home. The caller frees. */
char *conf_own_path(const char *tenant);

/* Reads the file (absolute path; it need not be there) and adds what it has to t, which was checked; else sets t->own_error. */
void conf_own_add(struct conf *c, struct conf_tenant *t, const char *file);

/* Whether the tenant could have the file `file` (absolute) instead of what it has. 0; ERR_USAGE: it has errors, which are appended
 * to `all`, a line each; -ENOENT: there is no such tenant; else the rest of the configuration cannot be read. Blocks for files. */
int conf_own_try(const char *home, const char *tenant, const char *file, struct buf *all, struct err *e);

#endif
