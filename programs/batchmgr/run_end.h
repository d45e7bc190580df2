/* The end of a run: what its step's result means, and for its files. */
#ifndef SIMBDP_BATCHMGR_RUN_END_H
#define SIMBDP_BATCHMGR_RUN_END_H

#include "model.h"

#include "run/spec.h"

struct batchmgr;

/* The run's step ended (TAKE res). Where its output is to be loaded, the run is at that step now, and `load` is called with the run
 * when its row says so. Otherwise this is the end of the run, now or when the database was asked. */
void run_end_step(struct run *r, struct run_result *res, void (*load)(void *run));
/* A database answered a check: verdicts that waited for it go on. */
void run_end_on_health(struct batchmgr *m);

/* It came to nothing for reasons of ours: its files go back as if it had not run, to be run again after delay_ms. */
void run_end_cancel(struct run *r, const char *why, int64_t delay_ms);
/* Somebody removed the bytes of one of its files from work/. */
bool run_end_bytes_are_gone(const struct run *r);
void run_end_without_bytes(struct run *r);

/* Puts a file back to be run again, after delay_ms where it waits; with its mates, if it has any. */
void run_end_put_back(struct batchmgr *m, struct file *first, enum file_state state, int64_t delay_ms);

#endif
