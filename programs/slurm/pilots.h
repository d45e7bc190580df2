/* Pilots: jobs that stay, in which one run after another is started, so that short runs do not wait for Slurm's queue each.
 *
 * A pilot is only a quicker way to a runner on a node. Its spec, the fence, who has it, its result and what is left of it are on
 * the shared disk as for a step that is a job by itself, and what follows from them is job_next's matter; Slurm's word of the
 * pilot's job is its word of the steps that were given to it. What goes over the wire (pilot_link.h) hurries that up.
 *
 *   state/jobs/<pilot>.pilot      keys and terms of one, before sbatch is called (pilot_files.h)
 *   state/jobs/<claim>.job        the number of the pilot's job and the options, with a line "in-pilot=<pilot>", before the step is
 *                                 given to it; number 0: it was given to none yet
 *
 *   killed before sbatch          Slurm knows no job of that name: the file goes, and there is another pilot
 *   launcher killed               pilots go on, and look for another launcher's address; it takes them up by their keys
 *   step given, message lost      the pilot does not name it: it is told again
 *   pilot killed                  its job is over: the runs that began are `lost` once their node says that nothing of them is
 *                                 left, those that did not begin are fenced
 *   pilot comes back later        what it was to begin is fenced, what it began has its result in a place that nobody reads
 *
 * A pool is what can take the same steps: pilots of a profile that were submitted with the same options. */
#ifndef SIMBDP_SLURM_PILOTS_H
#define SIMBDP_SLURM_PILOTS_H

#include "job.h"

#define PILOT_NONE   "0"
#define PILOT_PREFIX "pilot-" /* of its id, in the name of its job */

struct pilots *pilots_new(struct launcher *l);
void pilots_free(struct pilots *ps); /* pilots go on. NULL is fine */
size_t pilots_n(const struct launcher *l);

/* The pool for steps with these options; NULL: they ask for none. `runtime`: as specs for nodes have it. */
struct pilot_pool *pilots_pool(struct launcher *l, const char *options, const char *runtime);
/* Gives steps that wait to pilots that have room, in the order in which they came. */
void pilots_serve(struct launcher *l, struct pilot_pool *pool);
/* Of an earlier launcher, with the job number that is on disk. True: it was given to a pilot. */
bool pilots_take_up(struct job *j, const char *id);
/* The step has ended; or (ended false) is somebody else's matter while its pilot has it. */
void pilots_take_back(struct job *j, bool ended);
/* Has its pilot end it; where that is not heard, that has to be said again. */
void pilots_stop_run(struct job *j);
char *pilots_why_waiting(const struct job *j); /* caller frees */
char *pilots_job_name(const struct pilot *p);  /* likewise */

/* A line whose name is ours and that is no step's. */
void pilots_listed(struct launcher *l, const char *name, const struct slurm_line *line, int64_t asked_ms);
void pilots_after_listing(struct launcher *l, int64_t asked_ms);
void pilots_tick(struct launcher *l);

#endif
