/* From a file and its app to the spec of a run's step. */
#ifndef SIMBDP_BATCHMGR_RUN_PLAN_H
#define SIMBDP_BATCHMGR_RUN_PLAN_H

#include "model.h"

#include "conf/conf.h"
#include "run/spec.h"

struct batchmgr;

void run_plan_start(struct batchmgr *m);
void run_plan_stop(struct batchmgr *m);

/* Fills the spec of the run's step for r->file and its mates. */
int run_plan_make(struct batchmgr *m, const struct run *r, const struct conf_tenant *t, const struct conf_batch *app,
                  struct run_spec *ret, struct err *e);

/* Directory of the run's current step, and the name that runner, lock, socket and cgroup carry. Callers free. */
char *run_plan_dir(struct batchmgr *m, const struct run *r);
char *run_plan_claim(const struct run *r);

/* A group's files under one directory, below the home (links; caller frees the name). Made again for every step that needs it. */
char *run_plan_group_dir(const struct run *r);
int run_plan_link_group(struct batchmgr *m, const struct run *r, struct err *e);

/* The prefix of the _ids that loading this file with this app makes: hex of BLAKE2b-128 over tenant, dataset, content
 * hash (`shared`: the hashes of all its mates, too) and what produced the rows (image, executable's bytes and arguments, or the
 * built-in loader's version). */
void run_plan_prefix(struct batchmgr *m, const struct run *r, const struct file *f, bool shared, const struct conf_batch *app,
                     char out[33]);

#endif
