/* The room of a manager: what it keeps of root when it becomes a user of its own, for good. It may do with files what root may
 * (tenants' are in its hands), but finds few: a mount namespace of its own has the home, libraries, what names are resolved with,
 * and what the configuration lies in, and only the home's parts that it writes can be changed. Mounts that come later below the
 * home appear there; others do not. Landlock says the same once more, and the filter of runs and the lack of all other capabilities
 * that nothing of it is taken back. */
#ifndef SIMBDP_SANDBOX_ROOM_H
#define SIMBDP_SANDBOX_ROOM_H

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
};

/* One thread only; descriptors of directories are to be opened after it (the home's is, here). What the host does not give of the
 * namespace is told in the log. 0 or negative: the process is to end then. */
int room_enter(struct home *h, const struct room *r, struct err *e);

#endif
