/* Starting other programs. */
#ifndef SIMBDP_BASE_SPAWN_H
#define SIMBDP_BASE_SPAWN_H

#include "buf.h"
#include "err.h"

#include <spawn.h>

/* Starts argv[0], which is looked for in PATH when it has no slash. The program starts with no signal blocked, whatever is blocked
 * here. `flags` adds to posix_spawn's: POSIX_SPAWN_SETPGROUP: a process group of its own; POSIX_SPAWN_SETSIGDEF: no signal ignored.
 * `actions` are done in the child, and destroyed here. 0, or -errno when it cannot be started. Does not wait for its end. */
int spawn_start(char *const argv[], char *const envp[], posix_spawn_file_actions_t *actions, short flags, pid_t *ret_pid);

/* Starts a helper: a program of ours that stays beside this one, with this process' environment and in a process group of its own
 * (a terminal's ^C does not reach it). The two talk over a pair of SOCK_SEQPACKET; the helper's end is its stdin, and it ends when
 * that is closed. 0, or negative with what could not be done. */
int spawn_partner(char *const argv[], int *ret_fd, pid_t *ret_pid, struct err *e);
/* Closes the socket and waits for the helper's end. */
void spawn_part(int fd, pid_t pid);

/* The first executable of that name in PATH, as a path; NULL: there is none. Caller frees. */
char *spawn_find(const char *name);

/* Runs a program of ours to its end and takes what it prints, up to max bytes. ret_status NULL: it must exit with 0, else
 * ERR_REFUSED; otherwise the wait status is put there. 0, or negative: it cannot be started or read. Blocks until it ends. */
int spawn_output(char *const argv[], char *const envp[], struct buf *out, size_t max, int *ret_status, struct err *e);

#endif
