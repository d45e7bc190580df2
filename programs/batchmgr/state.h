/* What the modules of this folder share. Each module's own state is behind a pointer, and known to it alone. */
#ifndef SIMBDP_BATCHMGR_STATE_H
#define SIMBDP_BATCHMGR_STATE_H

#include "base/map.h"
#include "conf/conf.h"
#include "host/cgroup.h"
#include "host/home.h"
#include "host/isolation.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

struct batchmgr {
    struct home home;
    struct conf *conf; /* in force */
    struct cgroup_host cgroups;
    struct isolation_host isolation;
    struct event_base *base;
    int64_t started_wall_ms, started_ms;
    bool supervised; /* by `mysimbdp up`, which starts it again */
    bool draining;   /* nothing is admitted or started any more; the program ends with the last run */
    bool disk_low;   /* intake and dispatch pause */

    struct ledger *ledger;
    struct journal *journal;
    struct map tenants; /* id -> struct tenant */
    struct map files;   /* id -> struct file, the unfinished ones */
    struct fair_queue *fair_queue;
    struct spawner *spawner; /* the warden's side of it */
    struct images *images;   /* of apps; NULL until dispatch_start */
    struct outside *outside; /* what this process sees of the host beside the home */
    int runs_fd;             /* HOME/runs */

    struct turn *turn;
    struct databases *databases;
    struct intake *intake;
    struct staging *staging;
    struct candidates *candidates;
    struct walks *walks;
    struct claims *claims;
    struct uploads *uploads;
    struct spool *spool;
    struct hand_ins *hand_ins;
    struct filing *filing;
    struct inspection *inspection;
    struct contents *contents; /* duplicates.c */
    struct releases *releases;
    struct runs *runs;
    struct dispatching *dispatching;
    struct parking *parking;
    struct run_plans *run_plans;
    struct deletions *deletions;
    struct retention *retention;
    struct stream_sums *stream_sums;
    struct purges *purges;
    struct movings *movings;
};

#endif
