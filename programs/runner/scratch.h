/* Enforces the limits of a run's working directory by polling it, for file systems without project quotas. */
#ifndef SIMBDP_RUNNER_SCRATCH_H
#define SIMBDP_RUNNER_SCRATCH_H

#include "run/kinds.h"

#include <stdbool.h>
#include <stdint.h>

struct scratch {
    int64_t max_bytes, max_inodes; /* -1: no limit */
    int64_t bytes, inodes;         /* as last seen; bytes as they take room on the disk */
    int64_t fsize_bytes;           /* RLIMIT_FSIZE of the run; -1: none */
    bool full_file;                /* a file of exactly that size was seen: it was probably cut off there */
};

/* Looks at everything below the directory `name` of dirfd: never follows a link, holds at most SCRATCH_MAX_DEPTH descriptors, stops
 * at the first limit that is broken. Returns that one (scratch_bytes or scratch_inodes), or RUN_LIMIT_none. Deeper nesting
 * counts as scratch_inodes. Blocks for about 1 us a file. */
enum { SCRATCH_MAX_DEPTH = 128 };
enum run_limit scratch_look(struct scratch *s, int dirfd, const char *name);

/* Adds deleted files that still take room since they are open: files of `uid` on the file system of `beside` (a file of dirfd) that
 * one of these processes (as cgroup_procs lists them) has open or mapped. Returns RUN_LIMIT_scratch_bytes when that is too much, or
 * RUN_LIMIT_none. A descriptor in flight over a Unix socket is not seen. */
enum run_limit scratch_look_held(struct scratch *s, int dirfd, const char *beside, int64_t uid, const char *pids);

/* In how many ms to look again: the closer to the limit the sooner, so that a fast writer gets little beyond it. -1: never. */
int scratch_interval_ms(const struct scratch *s);

#endif
