/* What runners and homes that were killed leave behind: a lock, a socket and cgroups of each run, and the parent of its home's
 * cgroups. None of it does harm, but it adds up.
 *
 * Whoever makes a run's cgroups holds the run's lock before, and says so as long as it lives; so what has a name whose lock is free
 * is nobody's. Directories of cgroups are removed by rmdir alone, which the kernel refuses while a process or another directory is
 * in them. The parent of a home's may go at any time when it is empty: who needs it makes it again (lib/host/cgroup.c). */
#ifndef SIMBDP_RUN_LEFTOVERS_H
#define SIMBDP_RUN_LEFTOVERS_H

#include "host/cgroup.h"
#include "host/home.h"

/* Removes locks, sockets and cgroups of this home's runs that have no runner any more. A cgroup in which a process is left stays:
 * who resolves the run needs it to end that process. */
void remains_clear(const struct home *h, const struct cgroup_host *cg);

/* The home is down: all of the above, and the parents. True when none of these is left. */
bool remains_retire(const struct home *h, const struct cgroup_host *cg);

/* How many parents of other homes of this user lie beside this one's, without a process and without a program of theirs that
 * answers: of homes that were killed or removed. fix: removes them, and counts those that stayed. Where sockets have a random
 * name (lib/host/home.c) it cannot be known whether a home runs, and the answer is 0. */
int remains_others(const struct home *h, const struct cgroup_host *cg, bool fix);

#endif
