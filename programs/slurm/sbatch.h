/* The arguments of a command of Slurm's, and what came of it. */
#ifndef SIMBDP_SLURM_SBATCH_H
#define SIMBDP_SLURM_SBATCH_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

enum { SBATCH_MAX_ARGS = 40 };

struct sbatch {
    char *argv[SBATCH_MAX_ARGS];
    size_t n;
};

void sbatch_add(struct sbatch *c, char *text); /* TAKE */
/* What all our jobs are submitted with. out: where their output goes. */
void sbatch_begin(struct sbatch *c, const char *name, const char *comment, const char *out);
/* Options, a line each; all false: those alone that say where it may run. The line for pilots is none. */
void sbatch_add_options(struct sbatch *c, const char *options, bool all);
void sbatch_end(struct sbatch *c); /* frees the arguments */

bool command_succeeded(int status, bool late);
const char *command_first_line(struct buf *out); /* of what it said; in `out`, or static */
/* The id that sbatch --parsable printed, perhaps behind warnings. */
bool sbatch_take_id(struct buf *out, char ret[32]);

#endif
