/* The tables of docs/scale-out.md. What they assume is said in the page, and in `sizes`, which is arithmetic and no simulation. */
#include "fleet.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the mean over the seeds, and what was broken ---- */

static struct fleet_figures mean_of(struct fleet_settings s)
{
    struct fleet_figures m = {0};
    for (int seed = 1; seed <= TABLE_SEEDS; seed++) {
        s.seed = (uint64_t)seed;
        struct fleet_figures f = fleet_run(&s);
        const char *broken = fleet_verdict(&s, &f);
        if (broken)
            printf("**seed %d: %s**\n", seed, broken);
#define MEAN(field) m.field += f.field / TABLE_SEEDS
        MEAN(wait_p50_s);
        MEAN(wait_p99_s);
        MEAN(alone_p99_s);
        MEAN(hit);
        MEAN(reduced);
        MEAN(wave_s);
        MEAN(pause_p99_s);
        MEAN(moved_bytes);
        MEAN(busiest);
        MEAN(down_s);
#undef MEAN
        m.moved += f.moved;
    }
    m.moved /= TABLE_SEEDS;
    return m;
}

/* ---- sizes: arithmetic ---- */

static const struct { /* assumed */
    double cores, nic_bytes_per_s;
} machine = {16, 1.25e9};

static const struct { /* a tenant's day, assumed */
    double files, file_bytes, run_s, messages_per_s, message_bytes;
} day = {1000, 10e6, 10, 50, 200};

#define USE            0.6   /* of the cores: the rest is for what fails and for peaks */
#define DISK_PER_S     400e6 /* written and synced by a home's one file system */
#define JOBS_PER_S     500.0 /* Slurm's own figure (docs/targets.md) */
#define MESSAGES_PER_S 150e3 /* through one gateway (docs/targets.md, line 15) */

static void sizes(void)
{
    puts("| machines | tenants | files a second | bytes of files a second | messages a second | homes that hold them by disk | by "
         "Slurm's pace | by messages | of the front by its line |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (int n = 1; n <= 10000; n *= 10) {
        double runs_per_s = n * machine.cores * USE / day.run_s;
        double tenants = runs_per_s * 86400 / day.files;
        double bytes = runs_per_s * day.file_bytes, messages = tenants * day.messages_per_s;
        printf("| %d | %.0f | %.0f | %.3g MB | %.0f | %.0f | %.0f | %.0f | %.0f |\n", n, tenants, runs_per_s, bytes / 1e6, messages,
               ceil(bytes / DISK_PER_S), ceil(runs_per_s / JOBS_PER_S), ceil(messages / MESSAGES_PER_S),
               ceil((bytes + messages * day.message_bytes) / machine.nic_bytes_per_s));
    }
}

/* ---- what a cell carries: waits by how full it is, and by how many tenants share it ---- */

static void fill(void)
{
    puts("| tenants of a cell | 50 % busy: p50, p99 | 70 % | 85 % | 95 % |\n| --- | --- | --- | --- | --- |");
    static const double loads[] = {0.5, 0.7, 0.85, 0.95};
    for (int tenants = 10; tenants <= 1000; tenants *= 10) {
        printf("| %d |", tenants);
        for (size_t i = 0; i < 4; i++) {
            struct fleet_settings s = fleet_defaults;
            s.cells = 1;
            s.tenants = tenants + 1;
            s.load = loads[i];
            s.seconds = 3600;
            struct fleet_figures f = mean_of(s);
            printf(" %.1f, %.1f s |", f.wait_p50_s, f.wait_p99_s);
        }
        puts("");
    }
}

/* ---- a noisy tenant ---- */

static const struct way {
    const char *name;
    enum placement placement;
    int shard;
} ways[] = {
    {"all tenants on all 16 nodes", EVERYWHERE, 16},
    {"groups of 4 nodes, a tenant in one", GROUPS, 4},
    {"groups of 2 nodes", GROUPS, 2},
    {"shuffle-sharding, 4 of 16", SHUFFLED, 4},
    {"shuffle-sharding, 2 of 16", SHUFFLED, 2},
    {"a node each", GROUPS, 1},
};

static struct fleet_settings noisy(const struct way *v, enum noise noise)
{
    struct fleet_settings s = fleet_defaults;
    s.placement = v->placement;
    s.shard = v->shard;
    s.noise = noise;
    s.load = 0.5;
    return s;
}

static void flood(void)
{
    puts("| placement | quiet tenants' p99 before | over all, with the flood |\n| --- | --- | --- |");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct fleet_settings s = noisy(&ways[i], FLOOD);
        struct fleet_figures f = mean_of(s);
        printf("| %s | %.1f s | %.1f s |\n", ways[i].name, f.alone_p99_s, f.wait_p99_s);
    }
}

static void poison(void)
{
    puts("| placement | lost some of their nodes | were without any | the longest | quiet tenants' p99 before | over all |\n"
         "| --- | --- | --- | --- | --- | --- |");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct fleet_settings s = noisy(&ways[i], POISON);
        struct fleet_figures f = mean_of(s);
        printf("| %s | %.1f %% | %.1f %% | %.0f s | %.1f s | %.1f s |\n", ways[i].name, 100 * f.reduced, 100 * f.hit, f.down_s,
               f.alone_p99_s, f.wait_p99_s);
    }
}

static void shards(void)
{
    static const struct {
        int n, k;
    } of[] = {{8, 2}, {16, 2}, {16, 4}, {64, 4}, {100, 5}, {256, 4}};
    puts("| nodes | of which a tenant has | different shards | share all with a noisy one | half of them or more | none |\n"
         "| --- | --- | --- | --- | --- | --- |");
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        double half = 0;
        for (int j = (of[i].k + 1) / 2; j <= of[i].k; j++)
            half += shared(of[i].n, of[i].k, j);
        printf("| %d | %d | %.0f | 1 in %.0f | %.2g %% | %.1f %% |\n", of[i].n, of[i].k, choose(of[i].n, of[i].k),
               1 / shared(of[i].n, of[i].k, of[i].k), 100 * half, 100 * shared(of[i].n, of[i].k, 0));
    }
}

/* ---- a cell that fails ---- */

static void failure(void)
{
    puts("| load | cells | what is done | tenants without a cell | the longest | p99 before | over all | the busiest cell |\n"
         "| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (int cells = 4; cells <= 16; cells *= 4)
        for (int evacuates = 0; evacuates < 2; evacuates++)
            for (int full = 0; full < 2; full++) {
                struct fleet_settings s = fleet_defaults;
                s.cells = cells;
                s.tenants = 20 * cells + 1;
                s.placement = GROUPS;
                s.fails = 1;
                s.evacuates = evacuates;
                s.load = full ? 0.8 : 0.6;
                s.skew = 0.3;
                s.repair_s = evacuates ? 1e6 : 600;
                struct fleet_figures f = mean_of(s);
                printf("| %.0f %% | %d | %s | %.1f %% | %.0f s | %.1f s | %.1f s | %.0f %% |\n", 100 * s.load, cells,
                       evacuates ? "its tenants are restored elsewhere, it stays away" : "it is back after 600 s", 100 * f.hit,
                       f.down_s, f.alone_p99_s, f.wait_p99_s, 100 * f.busiest);
            }
}

/* ---- moves ---- */

static void moves(void)
{
    puts("| tenants of the cell | each has | at once | moved | took | bytes | pause, p99 | p99 wait before | over all |\n"
         "| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (int tenants = 20; tenants <= 80; tenants *= 4)
        for (int k = 0; k < 3; k++) {
            struct fleet_settings s = fleet_defaults;
            s.cells = 8;
            s.tenants = tenants * s.cells + 1;
            s.placement = GROUPS;
            s.skew = 0.3;
            s.load = 0.5;
            s.drains = 1;
            s.moves_at_once = k == 1 ? 1 : 4;
            s.tenant_bytes = k == 2 ? 20e9 : 2e9;
            s.seconds = 3600;
            struct fleet_figures f = mean_of(s);
            printf("| %d | %.0f GB | %d | %d | %.0f s | %.0f GB | %.0f s | %.1f s | %.1f s |\n", tenants, s.tenant_bytes / 1e9,
                   s.moves_at_once, f.moved, f.wave_s, f.moved_bytes / 1e9, f.pause_p99_s, f.alone_p99_s, f.wait_p99_s);
        }
}

/* ---- streams after an outage ---- */

static void streams(void)
{
    static const double rooms[] = {1.1, 1.25, 1.5, 2, 3}, downs[] = {60, 600};
    puts("| the cell was away | room for | 99 of 100 apps have nothing older than 5 s after | all after | instances at most |\n"
         "| --- | --- | --- | --- | --- |");
    for (size_t d = 0; d < 2; d++)
        for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
            struct stream_figures m = {0};
            for (int seed = 1; seed <= TABLE_SEEDS; seed++) {
                struct stream_settings s = {(uint64_t)seed, 100, 100, 10, rooms[i], downs[d]};
                struct stream_figures f = streams_run(&s);
                if (f.over)
                    printf("**seed %d: more instances than there is room for**\n", seed);
                m.recovered_s += f.recovered_s / TABLE_SEEDS;
                m.last_s += f.last_s / TABLE_SEEDS;
                m.peak += f.peak / f.normal / TABLE_SEEDS;
            }
            printf("| %.0f s | %.2f times what is needed | %.0f s | %.0f s | %.2f times |\n", downs[d], rooms[i], m.recovered_s,
                   m.last_s, m.peak);
        }
}

static const struct {
    const char *name;
    void (*print)(void);
} tables[] = {{"sizes", sizes},   {"fill", fill},       {"shards", shards}, {"flood", flood},
              {"poison", poison}, {"failure", failure}, {"moves", moves},   {"streams", streams}};
const size_t n_tables = sizeof tables / sizeof *tables;
const char *const table_names[] = {"sizes", "fill", "shards", "flood", "poison", "failure", "moves", "streams"};

void table_print(size_t i)
{
    printf("<!-- fleetsim %s -->\n", tables[i].name);
    tables[i].print();
    puts("<!-- end -->");
}
