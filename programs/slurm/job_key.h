/* A CURVE key pair for a step whose spec leads to broker or monitor over tcp. The secret key is in the spec alone, which only root
 * reads; the app gets both in its environment, which only its own uid and root see. */
#ifndef SIMBDP_SLURM_JOB_KEY_H
#define SIMBDP_SLURM_JOB_KEY_H

#include "host/home.h"
#include "run/spec.h"

/* Puts one into the environment of a spec that is to have it (its environment names the key of a server). Before the spec is
 * written. */
int job_key_make(struct run_spec *s, struct err *e);
/* From now on its public key is known as the run's; after the spec was written, since it counts with that. */
int job_key_publish(const struct home *h, const struct run_spec *s, struct err *e);
/* The step is over, or never begins. */
void job_key_forget(const struct home *h, const struct run_spec *s);

#endif
