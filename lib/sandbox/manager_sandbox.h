/* Puts a manager process, or the gateway, into a sandbox that it cannot leave. It becomes a user of its own and keeps only the
 * capabilities that tenants' files need. A mount namespace shows it the home, libraries, what names are resolved with, and the
 * paths that the configuration names; only the parts of the home that it writes are writable. Mounts that come later below the home
 * appear there, others do not. Landlock enforces the same once more; the seccomp filter and the dropped capabilities make it
 * irreversible. */
#ifndef SIMBDP_SANDBOX_MANAGER_SANDBOX_H
#define SIMBDP_SANDBOX_MANAGER_SANDBOX_H

#include "host/home.h"

#include <stdint.h>

struct room {
    int64_t uid;
    uint64_t capabilities;    /* a bit each */
    const char *const *sees;  /* absolute paths besides, read-only; ends with NULL. What is not there is left out */
    const char *scratch;      /* a directory that it changes, too; NULL: none */
    const char *const *parts; /* of the home, which it changes; ends with NULL */
    const char *key;          /* the one file of keys/ that it reads; NULL: none */
    bool moves;               /* files between them; else nothing beside them can be changed at all */
    bool bare;                /* sees `parts`, the run-time directory, and nothing else of the host or the home */
};

/* One thread only; descriptors of directories are to be opened after it (the home's is, here). What the host does not give of the
 * namespace is told in the log. 0 or negative: the process is to end then. */
int room_enter(struct home *h, const struct room *r, struct err *e);

#endif
