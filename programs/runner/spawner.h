/* The spawner: forks runners for a manager. Single-threaded, holds no state, replaceable at any time. */
#ifndef SIMBDP_RUNNER_SPAWNER_H
#define SIMBDP_RUNNER_SPAWNER_H

/* Serves requests on the SOCK_SEQPACKET socket `fd` until the manager closes it. A request is any one byte with two
 * descriptors: a file with the spec, and the runner's end of the order channel. `tag` is the home's: it names
 * the cgroup that the runs' cgroups are made in; `home` is its path. Returns the program's exit code. */
int spawner_main(int fd, const char *tag, const char *home);

#endif
