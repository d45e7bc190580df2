/* Starting a program of the platform's host. */
#ifndef SIMBDP_SPAWN_H
#define SIMBDP_SPAWN_H

#include <spawn.h>

/* Starts argv[0], looked for in PATH when it has no slash, with no signal blocked, whatever is blocked here. flags: more of
 * posix_spawn's: POSIX_SPAWN_SETPGROUP: in a process group of its own; POSIX_SPAWN_SETSIGDEF: no signal ignored, either.
 * `actions` are done in the child, and destroyed here. 0, or -errno when it cannot be started. Does not wait. */
int spawn_start(char *const argv[], char *const envp[], posix_spawn_file_actions_t *actions, short flags, pid_t *ret_pid);

#endif
