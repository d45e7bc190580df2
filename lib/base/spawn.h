/* Starting a program of the platform's host. */
#ifndef SIMBDP_BASE_SPAWN_H
#define SIMBDP_BASE_SPAWN_H

#include "buf.h"
#include "err.h"

#include <spawn.h>

/* Starts argv[0], looked for in PATH when it has no slash, with no signal blocked, whatever is blocked here. flags: more of
 * posix_spawn's: POSIX_SPAWN_SETPGROUP: in a process group of its own; POSIX_SPAWN_SETSIGDEF: no signal ignored, either.
 * `actions` are done in the child, and destroyed here. 0, or -errno when it cannot be started. Does not wait. */
int spawn_start(char *const argv[], char *const envp[], posix_spawn_file_actions_t *actions, short flags, pid_t *ret_pid);

/* Starts a program of ours, with this process' environment and in a process group of its own (a terminal's ^C is not for it), that
 * stays beside this one: they talk over a pair of SOCK_SEQPACKET, whose other end is its stdin, and it ends with that. 0, or
 * negative with what could not be done. */
int spawn_partner(char *const argv[], int *ret_fd, pid_t *ret_pid, struct err *e);
/* Closes the socket and waits for its end. */
void spawn_part(int fd, pid_t pid);

/* The first executable of that name in PATH, as a path; NULL: there is none. Caller frees. */
char *spawn_find(const char *name);

/* Runs a program of ours to its end and takes what it prints, up to max bytes. 0 and the wait status in *ret_status (NULL: it must
 * have exited with 0, else ERR_REFUSED), or negative: it cannot be started or read. Blocks until it ends. */
int spawn_output(char *const argv[], char *const envp[], struct buf *out, size_t max, int *ret_status, struct err *e);

#endif
