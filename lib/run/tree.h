/* The whole process tree below this process, which must be a child subreaper: every orphan of the tree becomes our
 * child, so "no children left" is proof that nothing of it is left. */
#ifndef SIMBDP_RUN_TREE_H
#define SIMBDP_RUN_TREE_H

#include <stdbool.h>
#include <sys/types.h>

/* Signals every descendant of this process found in /proc. Returns how many were found. */
int tree_signal(int sig);

/* Signals every process whose environment holds NAME=VALUE (for trees whose runner died, where no cgroup tells). */
int tree_signal_marked(const char *name, const char *value, int sig);

/* Whether the process is there and has not ended. One that nobody reaps is a zombie for ever, where a container's first process is
 * no init, and keeps its pid. */
bool tree_is_alive(pid_t pid);

/* Reaps what has ended; stores main's status when it is among it. True when no child is left. */
bool tree_reap(pid_t main, bool *main_ended, int *status);

#endif
