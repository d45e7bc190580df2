/* A command that is fed messages as lines. */
#ifndef SIMBDP_STREAM_COMMAND_H
#define SIMBDP_STREAM_COMMAND_H

#include "base/buf.h"
#include "base/err.h"

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

struct command_job {
    char **argv;
    const char *in; /* it need not read all */
    size_t n;
    struct buf *out; /* gets what it prints; NULL: its stdout is ours */
    size_t max_out;
    int64_t max_ms;          /* 0: it may take as long as it likes. Else it has a process group of its own */
    void (*tick)(void *arg); /* called a few times a second meanwhile */
    void *arg;
};

/* Runs a command: its exit code, or negative. ERR_LIMIT: it printed more than max_out, -ETIMEDOUT: it took longer than max_ms; it
 * (with its process group, where it has one) was killed then. */
int command_run(const struct command_job *job, struct err *e);

#endif
