/* Commands of Slurm's, as child processes with a deadline. On the loop; nothing blocks. */
#ifndef SIMBDP_SLURM_COMMAND_H
#define SIMBDP_SLURM_COMMAND_H

#include "base/buf.h"

#include <event2/event.h>

struct commands;

/* status: as waitpid gives it, or -errno: it was not started. late: it was killed at its deadline. out: what it printed, on both of
 * its descriptors; ends with a NUL. Once, from the loop. */
typedef void (*command_ended_fn)(void *arg, int status, bool late, struct buf *out);

struct commands *commands_new(struct event_base *base);
void commands_free(struct commands *c); /* kills them; nobody is told. NULL is fine */
/* argv[0] is looked for in PATH, and gets nothing by stdin. */
void command_start(struct commands *c, char *const argv[], int64_t deadline_ms, command_ended_fn ended, void *arg);
/* Who is told nothing any more. */
void commands_forget(struct commands *c, const void *arg);
size_t commands_n(const struct commands *c);

#endif
