/* The programs of the platform: since when they run, how often they were started again (as `mysimbdp up` tells in
 * state/programs.json), and what they and their helpers use now, as /proc has it. */
#ifndef SIMBDP_KEEPER_PROGRAM_USE_H
#define SIMBDP_KEEPER_PROGRAM_USE_H

#include "host/home.h"

#include <stddef.h>

struct process_use {
    char name[32];    /* as the kernel has it, or the program's */
    int64_t n;        /* processes that are summed up here */
    double cpu_s;     /* since they began */
    double cpu_share; /* of one processor, since they were looked at before; NaN: unknown */
    int64_t memory_bytes;
    int64_t descriptors;     /* -1: the kernel does not tell it (Linux before 6.2) */
    int64_t max_descriptors; /* of one of them; -1: unknown */
};

struct program_use {
    char *name, *ended;                     /* ended: how it did last, or NULL */
    int64_t started_wall_ms, ended_wall_ms; /* 0: never */
    int64_t restarts;
    bool runs;
    struct process_use own, helpers; /* helpers: what it started of the platform's, by one level; n 0: nothing */
};

struct programs_use {
    struct program_use *v;
    size_t n;
};
void programs_use_fini(struct programs_use *p);

/* Reads them; `before` is what was read at before_ms (n 0: nothing). No programs where `up` does not run. Does not block but for
 * /proc. */
void programs_use_read(const struct home *h, const struct programs_use *before, int64_t ms_since, struct programs_use *ret);

#endif
