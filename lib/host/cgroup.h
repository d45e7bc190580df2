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
    /* Directory in which a home's runs get theirs, by kind; "" where the host gives none. Several kinds may share one (v2). */
    char base[CGROUP_N_KINDS][512];
    bool v2[CGROUP_N_KINDS];
    char why[CGROUP_N_KINDS][256]; /* why a base is "" */
};

/* Whether this process is in a cgroup below such a directory, in the hierarchy of that v1 controller (NULL: the v2 tree). */
bool cgroup_is_runs(const char *controller);

/* The platform's own programs live in a v2 group of this name where a service manager delegated the group above it: processes may
 * not be beside groups that have controllers (cgroup-v2.rst, "No Internal Process Constraint"). systemd calls it DelegateSubgroup.
 */
#define CGROUP_SUPERVISOR "supervisor"

/* Finds and makes the directories `mysimbdp-<tag>`. Never fails: what the host does not give is "". */
void cgroup_probe(struct cgroup_host *h, const char *tag);

/* The same of directories that are there already: makes and checks nothing. For who reads alone. */
void cgroup_find(struct cgroup_host *h, const char *tag);

struct cgroup_limits { /* -1: none */
    int64_t cpu_pct, memory_bytes, pids;
};

/* Makes a run's directories and sets its limits, except that of the CPU. ret_procs gets n descriptors of cgroup.procs (-1 where
 * absent): the child writes "0" to each before exec. *ret_tree (-1: none) is the v2 directory, in which a child can be created at
 * once (CLONE_INTO_CGROUP); its entry in ret_procs is then only needed where that fails. */
int cgroup_make(const struct cgroup_host *h, const char *name, const struct cgroup_limits *l, int ret_procs[CGROUP_N_KINDS],
                int *ret_tree, struct err *e);

/* Sets the CPU limit. To be called once the run is going: it takes the kernel 0.5 ms where no other cgroup has one (6.18). */
int cgroup_limit_cpu(const struct cgroup_host *h, const char *name, const struct cgroup_limits *l, struct err *e);

/* Moving a process into another cgroup waits for an RCU grace period when it was not done for a while: 10 ms and more (6.18). With
 * v2 nothing moves, since a child is created where it belongs. With v1 somebody has to move. So a standby process enters
 * directories of its own ahead of time; when a run comes, the directories get its name and limits, and its child is born there. */
bool cgroup_must_move(const struct cgroup_host *h); /* there are v1 hierarchies */
/* This process enters new directories called `name`, one in every v1 hierarchy. */
int cgroup_enter(const struct cgroup_host *h, const char *name, struct err *e);
/* Turns them into those of run `name`, as cgroup_make does (the pids limit has room for this process). */
int cgroup_adopt(const struct cgroup_host *h, const char *from, const char *name, const struct cgroup_limits *l, int *ret_tree,
                 struct err *e);
/* This process leaves them for the directories above. `l` (NULL: none): the limits, which are made exact now. */
void cgroup_leave(const struct cgroup_host *h, const char *name, const struct cgroup_limits *l);
/* Removes directories that a standby which died left behind. */
void cgroup_sweep(const struct cgroup_host *h, const char *prefix);

/* Moves a process of the platform into the run's cgroups, so that it is charged and ended with the run. Best effort; may take 10
 * ms. */
void cgroup_join(const struct cgroup_host *h, const char *name, pid_t pid);

/* Whether the cgroup alone can kill all of the run and prove that nothing is left. */
bool cgroup_has_tree(const struct cgroup_host *h);
/* SIGKILL to every process in it, at once. */
void cgroup_kill(const struct cgroup_host *h, const char *name);
/* Adds the pids of its processes, one a line. 0 or -errno. */
int cgroup_procs(const struct cgroup_host *h, const char *name, struct buf *ret);
/* Sends `sig` to each process in it. */
void cgroup_signal(const struct cgroup_host *h, const char *name, int sig);
/* Whether no process is in it. Also true when it does not exist. */
bool cgroup_is_empty(const struct cgroup_host *h, const char *name);
/* The kernel's counts: processes killed for memory, forks refused for pids. 0 where absent. */
int64_t cgroup_oom_kills(const struct cgroup_host *h, const char *name);
/* Whether it reached a memory limit of its own (v1: also when pages of files were dropped for it). If not, processes that were
 * killed for memory met a limit of the host's, or of a group above. */
bool cgroup_met_memory_limit(const struct cgroup_host *h, const char *name);
int64_t cgroup_pids_refused(const struct cgroup_host *h, const char *name);
/* Removes the bases themselves, where no run has a directory in them. */
void cgroup_retire(const struct cgroup_host *h);
/* Removes the directories; they must be empty. */
void cgroup_remove(const struct cgroup_host *h, const char *name);

#endif
