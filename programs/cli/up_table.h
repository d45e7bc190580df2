/* state/programs.json: what `mysimbdp up` knows of the programs that it starts, for who shows how they are (programs/keeper/). */
#ifndef SIMBDP_CLI_UP_TABLE_H
#define SIMBDP_CLI_UP_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define UP_TABLE "state/programs.json"

struct up_line {
    const char *name;
    pid_t pid;                              /* 0: it does not run */
    int64_t started_wall_ms, ended_wall_ms; /* the last time; 0: never */
    int64_t restarts;                       /* since `up` began */
    int status;                             /* of its last end, as of waitpid */
};

/* Writes {"programs":[{"program","pid","started_at","restarts","ended_at","ended"}]}; what goes wrong is logged. Blocks for the
 * disk. */
void up_table_write(int home_fd, const struct up_line *v, size_t n);

#endif
