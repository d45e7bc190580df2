/* fleetsim: a fleet of cells, by discrete events and with a clock of its own. What runs next in a cell is decided by batchmgr's own
 * fair queue, and how many instances a stream app has by the monitor's own scaling law. main.c says how it is called.
 *
 * A cell here is whatever fails, and is filled, as one: a home with its machine, or a node of a cluster. */
#ifndef FLEETSIM_H
#define FLEETSIM_H

#include "tests/bench/chance.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FLEET_SHARD_MAX = 16, FLEET_CELLS_MAX = 256 };

/* ---- shards.c: which cells a tenant may use ---- */

enum placement {
    EVERYWHERE, /* each tenant on all cells */
    GROUPS,     /* the cells in groups of `shard`, each tenant on one group */
    SHUFFLED,   /* each tenant on `shard` cells of its own choice: shuffle-sharding */
};
/* Writes `shard` different cells of n for the tenant of this number; gives how many (EVERYWHERE: all of n). */
int shard_of(enum placement p, int n, int shard, int tenant, struct rng *r, int ret[FLEET_CELLS_MAX]);
/* n over k. */
double choose(int n, int k);
/* How likely a shard of k of n shares exactly j with another one (hypergeometric). */
double shared(int n, int k, int j);

/* ---- fleet.c ---- */

enum noise {
    QUIET,
    FLOOD,  /* tenant 0 hands in as many files as all cells together can take, twice over */
    POISON, /* each run of tenant 0 takes its cell along */
};

/* What the simulator can be made to do wrong, so that its checks can be seen to notice. */
enum breakage {
    SOUND,
    LOSES,   /* a cell that fails forgets what ran there */
    TWICE,   /* what ran in a cell that failed is started elsewhere, and goes on there, too */
    FIFO,    /* the scheduler takes all tenants for one */
    STARVES, /* a tenant that was moved stays blocked */
    CROWDS,  /* a cell starts more than it has cores for */
    N_BREAKAGES
};
extern const char *const breakage_names[N_BREAKAGES];

struct fleet_settings {
    uint64_t seed;
    int cells, tenants, shard;
    enum placement placement;
    double cores;            /* of a cell; a run takes one */
    double load;             /* the quiet tenants' share of all cores, 0 to 1 */
    double run_s;            /* mean; durations are lognormal, at most 10 times that */
    double skew;             /* tenants' rates fall with rank to this power; 0: all alike */
    double seconds;          /* files arrive for so long; the run goes on until all have ended, or for forty times as long */
    enum noise noise;        /* in the middle half of that time */
    double weight_of_second; /* of tenant 1; 0: as the others' */
    bool backlogged;         /* tenants 0 and 1 have all their files from the start */
    double repair_s;         /* until a cell that failed is back */
    double fence_s;          /* until what ran there is proven to have ended, and may start elsewhere */
    int fails;               /* this cell fails a quarter into the time; -1: none */
    bool evacuates;          /* its tenants are restored elsewhere, from detect_s on */
    double detect_s;
    int drains;        /* all tenants of this cell are moved, from a quarter into the time on; -1: none */
    int moves_at_once; /* in all of the fleet */
    double move_bytes_per_s, move_pause_s;
    double tenant_bytes; /* mean of what a tenant has; lognormal */
    enum breakage breakage;
};
extern const struct fleet_settings fleet_defaults;

struct fleet_figures {
    int64_t files, ended, reruns;
    double wait_p50_s, wait_p99_s, wait_max_s; /* of tenants but 0: arrival to start */
    double alone_p99_s;                        /* the same, of files that arrived before anything happened */
    double hit;                                /* share of the other tenants that could use none of their cells at some time */
    double reduced;                            /* share of them that lost some */
    double down_s;                             /* the longest that one could use none */
    double ratio;                              /* backlogged: service of tenant 1 to that of tenant 0 while both waited */
    int moved;
    double wave_s, pause_p99_s, moved_bytes; /* from the first move's begin to the last one's end */
    double busiest;                          /* cell: share of its cores in use, after the failure or the wave */
    double ended_s;                          /* when the last file ended */
    /* Violations of what must hold; each 0. */
    int64_t lost, twice, together, over, starved;
};

struct fleet_figures fleet_run(const struct fleet_settings *s);
/* NULL, or in words which promise was broken. */
const char *fleet_verdict(const struct fleet_settings *s, const struct fleet_figures *f);

/* ---- streams.c: stream apps whose cell fails and comes back ---- */

struct stream_settings {
    uint64_t seed;
    int apps;
    double rate_per_s, mu; /* of an app; of an instance */
    double headroom;       /* the cell has room for so many times the instances that are needed */
    double down_s;
};
struct stream_figures {
    double normal, peak; /* instances in use before, and at most afterwards */
    double recovered_s;  /* since the cell came back, until 99 of 100 apps had nothing older than 5 s; -1: not within 2 h */
    double last_s;       /* until all had */
    int64_t over;        /* seconds in which more instances ran than there is room for: 0 */
};
struct stream_figures streams_run(const struct stream_settings *s);

/* ---- tables.c: docs/scale-out.md's tables, in Markdown ---- */

enum { TABLE_SEEDS = 3 };
extern const char *const table_names[];
extern const size_t n_tables;
void table_print(size_t i);

#endif
