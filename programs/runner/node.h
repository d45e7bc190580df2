/* What a runner does beside all else where it is a job of a cluster: its manager is on another machine, or will be. */
#ifndef SIMBDP_RUNNER_NODE_H
#define SIMBDP_RUNNER_NODE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* Makes the directory for the locks and sockets of runs on this node, and checks that it is ours. */
int node_runtime(const char *path, struct err *e);
/* Writes into the step's directory who has it (RUN_HOLDER), and syncs that. */
int node_sign(int dirfd, struct err *e);
/* This machine's name, which may be another in the cluster. */
void node_name(bool cluster, char *ret, size_t size);

#endif
