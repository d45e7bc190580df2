/* What this host can do for `isolation = "full"`. simbdp-run is asked, which tries it. */
#ifndef SIMBDP_HOST_ISOLATION_H
#define SIMBDP_HOST_ISOLATION_H

#include "home.h"

#include <stdbool.h>

struct isolation_host {
    bool full;           /* a run can have namespaces and a view of its own */
    char why[512];       /* why runs cannot have full isolation */
    int landlock;        /* Landlock's ABI version, 0: not there */
    bool user_namespace; /* root of a user namespace, not of the host */
};

/* Blocks for some milliseconds. If simbdp-run cannot be asked, the host counts as one that can do nothing. */
void isolation_probe(struct isolation_host *ret, const struct home *h);

#endif
