/* A step that is a job, on disk:
 *
 *   state/jobs/<claim>.json     its spec, before sbatch is called; the job executes `simbdp-run` with it
 *   state/jobs/<claim>.job      the job's id and the options that it was submitted with
 *   state/jobs/<claim>.out      what simbdp-run says on its stderr
 *   state/jobs/<claim>.gone     made on the node: nothing of the step is left there
 *   state/jobs/run.sh           the script of all jobs
 *
 * They go when the step's end is acknowledged. state/jobs is root's, since what is in it is executed by root. */
#ifndef SIMBDP_SLURM_JOB_FILES_H
#define SIMBDP_SLURM_JOB_FILES_H

#include "facts.h"

#include "base/buf.h"
#include "host/home.h"

/* HOME/state/jobs/<claim>.<end>. Caller frees. */
char *job_path(const struct home *h, const char *claim, const char *end);

int job_files_begin(const struct home *h, struct err *e); /* the directory, and the script */
int job_spec_write(const struct home *h, const struct run_spec *s, struct err *e);
int job_spec_read(const struct home *h, const char *claim, struct run_spec *ret, struct err *e);
int job_id_write(const struct home *h, const char *claim, const char *id, const char *options, struct err *e);
/* False: there is none. *ret_options is for free(). */
bool job_id_read(const struct home *h, const char *claim, char ret_id[32], char **ret_options);
void job_files_remove(const struct home *h, const char *claim);

/* What the disk says of it, into `fenced`, `held`, `result`, `gone` and what goes with them; *ret_holder when it is held,
 * *ret_result when there is a result (free with run_result_free). */
void job_look(const struct home *h, const struct run_spec *s, struct job_facts *f, struct holder *ret_holder,
              struct run_result *ret_result);

/* Makes the step's directory, so that no runner begins any more. -EEXIST: one did. */
int job_fence(const struct run_spec *s);
/* Writes result.json: durable, and whole or not at all. */
int job_result_write(const struct run_spec *s, const struct run_result *res, struct err *e);

#endif
