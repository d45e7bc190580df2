/* What is known of an uploaded version of an app: apps/<tenant>/.versions/<app>/<version>.json (host/app_version.h has the layout).
 */
#ifndef SIMBDP_APPSTORE_MANIFEST_H
#define SIMBDP_APPSTORE_MANIFEST_H

#include "base/buf.h"
#include "host/app_version.h"

#define MANIFEST_STATES(X)                                                                                                         \
    X(building) /* simbdp-appstore is at it, or was killed: then it may be uploaded again */                                       \
    X(ready)                                                                                                                       \
    X(refused) /* for what it is; the same bytes are refused again */                                                              \
    X(failed)  /* for what the platform could not do; the same bytes may be sent again */
enum manifest_state {
#define STATE(name) MANIFEST_##name,
    MANIFEST_STATES(STATE)
#undef STATE
        N_MANIFEST_STATES
};
const char *manifest_state_text(enum manifest_state s);

struct manifest {
    char version[APP_VERSION_SIZE];
    char sha256[65]; /* of the upload, hex */
    enum manifest_state state;
    char *reason;           /* why it is refused or failed; NULL: it is not */
    char *by;               /* the account */
    int64_t uploaded_bytes; /* of the upload */
    int64_t bytes, files;   /* of the directory, with what a requirements.txt brought */
    int64_t created_ms;     /* wall clock */
    bool python;            /* it has an environment of its own */
};
void manifest_fini(struct manifest *m);
#define AUTO_MANIFEST __attribute__((cleanup(manifest_fini)))

/* Durable. 0 or -errno. */
int manifest_write(const struct home *h, const char *tenant, const char *app, const struct manifest *m, struct err *e);
/* -ENOENT: there is no such version. ERR_FORMAT: the file is damaged. */
int manifest_read(const struct home *h, const char *tenant, const char *app, const char *version, struct manifest *ret,
                  struct err *e);
/* All of the app's, newest first; at most MANIFEST_LIST_MAX. Those that are damaged are left out. 0 or -errno; the caller frees
 * with manifest_list_free. */
enum { MANIFEST_LIST_MAX = 1000 };
int manifest_list(const struct home *h, const char *tenant, const char *app, struct manifest **ret, size_t *ret_n, struct err *e);
void manifest_list_free(struct manifest *v, size_t n);

/* Adds the object that clients see: {"version","state","active","created_at","by","uploaded_bytes","bytes","files","python",
 * "sha256","reason"}. */
void manifest_tell(const struct manifest *m, const char *active, struct buf *out);

#endif
