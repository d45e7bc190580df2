/* A command that is fed messages as lines. */
#ifndef SIMBDP_COMMAND_H
#define SIMBDP_COMMAND_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <sys/types.h>

/* One message as a line: newline, carriage return, NUL and backslash are written \n, \r, \0 and \\. */
void command_add_line(struct buf *out, const char *p, size_t n);

struct command {
    pid_t pid;
    int in, out; /* our ends, non-blocking; -1: closed, or none */
};

/* argv[0] is looked for in PATH. Without with_output its stdout is ours. */
int command_start(char **argv, bool with_output, struct command *ret, struct err *e);

/* The exit code as a shell gives it, of what waitpid says. */
int command_code(int status);

/* Runs a command on `in`, calling tick a few times a second meanwhile: its exit code, or negative. It need not read all. `out` (may
 * be NULL) gets what it prints; ERR_LIMIT: more than max_out, and it was killed. */
int command_run(char **argv, const char *in, size_t n, struct buf *out, size_t max_out, void (*tick)(void *arg), void *arg,
                struct err *e);

#endif
