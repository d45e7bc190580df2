/* The inside of machine: what the thread read (machine.c), and how it is written (machine_json.c). */
#ifndef SIMBDP_KEEPER_MACHINE_PARTS_H
#define SIMBDP_KEEPER_MACHINE_PARTS_H

#include "program_use.h"
#include "runs_use.h"
#include "tenant_sums.h"

#include "conf/conf.h"

struct machine_seen {
    int64_t at_wall_ms, at_ms; /* 0: nothing was read yet */
    struct runs_use runs;
    struct tenant_sums sums;
    struct programs_use programs;
};

/* As machine_write; c may be NULL. Looks at the disks itself. */
void machine_json(const struct home *h, const struct machine_seen *s, const struct conf *c, struct buf *out);

#endif
