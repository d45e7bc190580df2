/* Runs and instances that go on: since when, what they use, what they may use, and how much CPU time in the last minutes. */
#ifndef SIMBDP_KEEPER_RUNS_USE_H
#define SIMBDP_KEEPER_RUNS_USE_H

#include "host/cgroup_use.h"
#include "host/home.h"

#include <sqlite3.h>

enum { RUNS_USE_WINDOW_MS = 300000, RUNS_USE_MAX = 2000 /* more are not looked at */ };

struct run_use {
    char run_id[ID_SIZE];
    char *tenant, *app, *step; /* step NULL: an instance of a stream app */
    int64_t started_wall_ms;
    struct cgroup_use use; /* all unknown: the host does not count */
    double window_cpu_s;   /* CPU time of the last RUNS_USE_WINDOW_MS; NaN: unknown */
};

struct runs_use {
    struct run_use *v;
    size_t n;
    bool cut; /* there are more */
};
void runs_use_fini(struct runs_use *r);

/* What was seen before: CPU time of each run at a few times. */
struct runs_seen;
struct runs_seen *runs_seen_new(void);
void runs_seen_free(struct runs_seen *s); /* NULL is fine */

/* Reads them over a connection of ledger_view.h. 0 or -EIO: sqlite3_errmsg says why. Blocks. */
int runs_use_read(struct runs_seen *s, const struct home *h, sqlite3 *db, int64_t now_wall_ms, struct runs_use *ret);

#endif
