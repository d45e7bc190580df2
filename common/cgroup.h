/* A cgroup a run, on whatever this host has: cgroup v2 controllers, v1 hierarchies, and a v2 tree without controllers
 * for cgroup.kill and cgroup.events (Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/). Everything is
 * probed by doing it once; nothing is assumed from version numbers. */
#ifndef SIMBDP_CGROUP_H
#define SIMBDP_CGROUP_H

#include "err.h"

#include <stdbool.h>
#include <stdint.h>

enum cgroup_kind { CGROUP_CPU, CGROUP_MEMORY, CGROUP_PIDS, CGROUP_TREE, CGROUP_N_KINDS };

struct cgroup_host {
    /* Parent directory for runs of this home, "" where the host gives none. Several kinds may share a directory (v2). */
    char base[CGROUP_N_KINDS][512];
    bool v2[CGROUP_N_KINDS];
    char why[CGROUP_N_KINDS][256]; /* why a base is "" */
};

/* Finds and makes the parents `mysimbdp-<tag>`. Never fails: what is not to be had is "". */
void cgroup_probe(struct cgroup_host *h, const char *tag);

struct cgroup_limits { /* -1: none */
    int64_t cpu_pct, memory_bytes, pids;
};

/* Makes the directories for one run and sets the limits. ret_procs gets n descriptors (-1 where absent) of cgroup.procs:
 * the child writes "0" to each before exec. */
int cgroup_make(const struct cgroup_host *h, const char *name, const struct cgroup_limits *l, int ret_procs[CGROUP_N_KINDS],
                struct err *e);

/* True where killing and proof of emptiness work through the cgroup alone. */
bool cgroup_has_tree(const struct cgroup_host *h);
/* SIGKILL to every process in it, at once. */
void cgroup_kill(const struct cgroup_host *h, const char *name);
/* Sends `sig` to each process in it. */
void cgroup_signal(const struct cgroup_host *h, const char *name, int sig);
/* True when no process is in it; also when it does not exist. */
bool cgroup_is_empty(const struct cgroup_host *h, const char *name);
/* Counts of the kernel: processes killed for memory, forks refused for pids. 0 where absent. */
int64_t cgroup_oom_kills(const struct cgroup_host *h, const char *name);
int64_t cgroup_pids_refused(const struct cgroup_host *h, const char *name);
/* Removes the directories; they must be empty. */
void cgroup_remove(const struct cgroup_host *h, const char *name);

#endif
