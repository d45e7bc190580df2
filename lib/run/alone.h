/* A run of the platform's own, without a manager: simbdp-image and simbdp-appstore have what strangers sent unpacked in one, as a
 * uid that owns nothing, with limits and no network. */
#ifndef SIMBDP_RUN_ALONE_H
#define SIMBDP_RUN_ALONE_H

#include "spec.h"

#include "host/home.h"

/* Fills in what such runs have in common: a run `run_id` of the tenant's, in `dir` (absolute; the runner makes it), as uid, without
 * limits but 100 % CPU, 64 processes and 256 descriptors; PATH and HOME. The caller adds the rest, and frees with run_spec_free. */
void run_alone_spec(struct run_spec *s, const struct home *h, const char *run_id, const char *tenant, const char *name,
                    const char *dir, int64_t uid);
void run_alone_add_arg(struct run_spec *s, const char *arg);

/* Runs it to its end. The spec is left as spec.json in dirfd, the directory in which s->dir lies. *ret is freed with
 * run_result_free; *ret_last_words, with free: the last `lines` lines that it printed, in printable ASCII, with '|' between them. 0
 * however it ended; negative: it was not started, or left no result. Our stdout is not its own. If this process ends, the runner
 * gets SIGTERM and ends the run. Blocks. */
int run_alone(const struct home *h, const struct run_spec *s, int dirfd, int lines, struct run_result *ret, char **ret_last_words,
              struct err *e);

#endif
