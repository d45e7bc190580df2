/* The launcher of jobs of a cluster (programs/slurm/), which the warden starts, and starts again when it ends. */
#ifndef SIMBDP_WARDEN_CLUSTER_H
#define SIMBDP_WARDEN_CLUSTER_H

#include "conf/conf.h"
#include "host/home.h"
#include "run/spec.h"

#include <sys/types.h>

struct cluster {
    int fd; /* -1: it does not run */
    pid_t pid;
};

/* Hands over a step that was checked, to be a job of what its profile says. The spec is changed into one for a node: broker and
 * monitor are reached over tcp there. instance: of a stream app. 0 or -errno. */
int cluster_run(struct cluster *c, const struct home *h, struct run_spec *spec, const struct conf *conf,
                const struct conf_profile *p, bool instance, int conn);
/* Likewise the channel of a step whose job may be there. */
int cluster_attach(struct cluster *c, const struct home *h, const char *claim, int conn);
/* Some child ended: true when it was the launcher. */
bool cluster_ended(struct cluster *c, pid_t pid);
/* Ends it; jobs go on. */
void cluster_stop(struct cluster *c);

#endif
