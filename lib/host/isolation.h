/* What this host gives to `isolation = "full"`: asked of simbdp-run, which tries it. */
#ifndef SIMBDP_HOST_ISOLATION_H
#define SIMBDP_HOST_ISOLATION_H

#include "home.h"

#include <stdbool.h>

struct isolation_host {
    bool full;           /* a run can have namespaces and a view of its own */
    char why[512];       /* not full: why */
    int landlock;        /* the kernel's ABI, 0: none */
    bool user_namespace; /* root here is not the host's */
};

/* Blocks for some milliseconds. A program that cannot be asked counts as a host that gives nothing. */
void isolation_probe(struct isolation_host *ret, const struct home *h);

#endif
