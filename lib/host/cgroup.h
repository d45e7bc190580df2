/* A cgroup a run, on whatever this host has: cgroup v2 controllers, v1 hierarchies, and a v2 tree without controllers
 * for cgroup.kill and cgroup.events (Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/). Everything is
 * probed by doing it once; nothing is assumed from version numbers. */
#ifndef SIMBDP_HOST_CGROUP_H
#define SIMBDP_HOST_CGROUP_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum cgroup_kind { CGROUP_CPU, CGROUP_MEMORY, CGROUP_PIDS, CGROUP_TREE, CGROUP_N_KINDS };

struct cgroup_host {
    /* Parent directory for runs of this home, "" where the host gives none. Several kinds may share a directory (v2). */
    char base[CGROUP_N_KINDS][512];
    bool v2[CGROUP_N_KINDS];
    char why[CGROUP_N_KINDS][256]; /* why a base is "" */
};

/* Whether this process is in a group below such a parent, in the hierarchy of the v1 controller (NULL: the v2 tree). */
bool cgroup_is_runs(const char *controller);

/* Finds and makes the parents `mysimbdp-<tag>`. Never fails: what is not to be had is "". */
void cgroup_probe(struct cgroup_host *h, const char *tag);

struct cgroup_limits { /* -1: none */
    int64_t cpu_pct, memory_bytes, pids;
};

/* Makes the directories for one run and sets the limits but that of the CPU. ret_procs gets n descriptors (-1 where absent) of
 * cgroup.procs: the child writes "0" to each before exec. *ret_tree (-1: none) is the v2 directory, which a child can be made in at
 * once (CLONE_INTO_CGROUP): its entry in ret_procs is then only needed where that fails. */
int cgroup_make(const struct cgroup_host *h, const char *name, const struct cgroup_limits *l, int ret_procs[CGROUP_N_KINDS],
                int *ret_tree, struct err *e);

/* The CPU's limit, which takes the kernel 0.5 ms to set where no other has one (6.18): once the run is going. */
int cgroup_limit_cpu(const struct cgroup_host *h, const char *name, const struct cgroup_limits *l, struct err *e);

/* Moving a process into another cgroup waits for an RCU grace period when it was not done for a while: 10 ms and more (6.18).
 * With v2 a child is made where it belongs and nothing moves. With v1 somebody has to move, so a process goes in ahead of time,
 * with directories of its own; when a run comes, the directories get its name and limits, and the child is born there. */
bool cgroup_must_move(const struct cgroup_host *h); /* there are v1 hierarchies */
/* This process enters new directories `name` of every v1 hierarchy. */
int cgroup_enter(const struct cgroup_host *h, const char *name, struct err *e);
/* Makes them those of run `name`, as cgroup_make (the pids limit with room for this process). */
int cgroup_adopt(const struct cgroup_host *h, const char *from, const char *name, const struct cgroup_limits *l, int *ret_tree,
                 struct err *e);
/* This process goes back to where the runs' directories lie; `l` (NULL: none): the limits are now exact. */
void cgroup_leave(const struct cgroup_host *h, const char *name, const struct cgroup_limits *l);
/* Removes directories that dead processes entered and left behind. */
void cgroup_sweep(const struct cgroup_host *h, const char *prefix);

/* Moves a process of ours into the run's cgroups, to be charged and ended with it. Best effort; may take 10 ms. */
void cgroup_join(const struct cgroup_host *h, const char *name, pid_t pid);

/* True where killing and proof of emptiness work through the cgroup alone. */
bool cgroup_has_tree(const struct cgroup_host *h);
/* SIGKILL to every process in it, at once. */
void cgroup_kill(const struct cgroup_host *h, const char *name);
/* Adds the pids of its processes, one a line. 0 or -errno. */
int cgroup_procs(const struct cgroup_host *h, const char *name, struct buf *ret);
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
