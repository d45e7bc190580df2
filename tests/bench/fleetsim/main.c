/* usage: fleetsim [TABLE | run [--SETTING VALUE]...]
 *
 * Without arguments all tables of docs/scale-out.md, in Markdown; with TABLE that one; `fleetsim --help` lists them, and the
 * settings of `run`, which prints the figures of one run, and ends with 1 when a promise was broken. */
#include "fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fleet_settings settings;

static const struct {
    const char *name;
    int *integer;
    double *number;
    bool *flag;
} options[] = {
    {"cells", &settings.cells, NULL, NULL},
    {"tenants", &settings.tenants, NULL, NULL},
    {"shard", &settings.shard, NULL, NULL},
    {"fails", &settings.fails, NULL, NULL},
    {"drains", &settings.drains, NULL, NULL},
    {"moves-at-once", &settings.moves_at_once, NULL, NULL},
    {"cores", NULL, &settings.cores, NULL},
    {"load", NULL, &settings.load, NULL},
    {"run-s", NULL, &settings.run_s, NULL},
    {"skew", NULL, &settings.skew, NULL},
    {"seconds", NULL, &settings.seconds, NULL},
    {"repair-s", NULL, &settings.repair_s, NULL},
    {"fence-s", NULL, &settings.fence_s, NULL},
    {"tenant-bytes", NULL, &settings.tenant_bytes, NULL},
    {"move-bytes-per-s", NULL, &settings.move_bytes_per_s, NULL},
    {"evacuates", NULL, NULL, &settings.evacuates},
};

static const char *const placements[] = {"everywhere", "groups", "shuffled"};
static const char *const noises[] = {"quiet", "flood", "poison"};

static int index_of(const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(names[i], name))
            return i;
    return -1;
}

static bool set(const char *name, const char *value)
{
    int i;
    for (size_t k = 0; k < sizeof options / sizeof *options; k++) {
        if (strcmp(options[k].name, name) != 0)
            continue;
        if (options[k].integer)
            *options[k].integer = atoi(value);
        else if (options[k].number)
            *options[k].number = atof(value);
        else
            *options[k].flag = atoi(value) != 0;
        return true;
    }
    if (!strcmp(name, "seed"))
        return settings.seed = strtoull(value, NULL, 10), true;
    if (!strcmp(name, "placement") && (i = index_of(placements, 3, value)) >= 0)
        return settings.placement = (enum placement)i, true;
    if (!strcmp(name, "noise") && (i = index_of(noises, 3, value)) >= 0)
        return settings.noise = (enum noise)i, true;
    if (!strcmp(name, "break") && (i = index_of(breakage_names, N_BREAKAGES, value)) >= 0)
        return settings.breakage = (enum breakage)i, true;
    return false;
}

static void print_usage(FILE *to)
{
    fputs("usage: fleetsim [TABLE | run [--SETTING VALUE]...]\n\ntables:", to);
    for (size_t i = 0; i < n_tables; i++)
        fprintf(to, " %s", table_names[i]);
    fputs("\nsettings: --seed --placement everywhere|groups|shuffled --noise quiet|flood|poison --break", to);
    for (int i = 0; i < N_BREAKAGES; i++)
        fprintf(to, "%s%s", i ? "|" : " ", breakage_names[i]);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        fprintf(to, " --%s", options[i].name);
    fputs("\n", to);
}

static int run(int argc, char **argv)
{
    settings = fleet_defaults;
    for (int i = 0; i < argc; i += 2)
        if (strncmp(argv[i], "--", 2) != 0 || i + 1 == argc || !set(argv[i] + 2, argv[i + 1])) {
            fprintf(stderr, "fleetsim: %s: there is no such setting, or it has no such value\n", argv[i]);
            return 2;
        }
    if (settings.cells < 1 || settings.cells > FLEET_CELLS_MAX || settings.shard < 1 || settings.shard > settings.cells ||
        settings.shard > FLEET_SHARD_MAX || settings.tenants < 2 || settings.cores < 1 || settings.run_s <= 0 ||
        settings.fails >= settings.cells || settings.drains >= settings.cells || settings.moves_at_once < 1) {
        fputs("fleetsim: a setting is out of range\n", stderr);
        return 2;
    }
    struct fleet_figures f = fleet_run(&settings);
    const char *broken = fleet_verdict(&settings, &f);
    printf("files %lld ended %lld reruns %lld lost %lld\n"
           "wait_s p50 %.2f p99 %.2f max %.2f before %.2f\n"
           "hit %.4f reduced %.4f down_s %.0f moved %d wave_s %.0f pause_p99_s %.1f busiest %.3f ended_s %.0f\n%s\n",
           (long long)f.files, (long long)f.ended, (long long)f.reruns, (long long)f.lost, f.wait_p50_s, f.wait_p99_s, f.wait_max_s,
           f.alone_p99_s, f.hit, f.reduced, f.down_s, f.moved, f.wave_s, f.pause_p99_s, f.busiest, f.ended_s,
           broken ? broken : "each promise was kept");
    return broken != NULL;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--help"))
        return print_usage(stdout), 0;
    if (argc > 1 && !strcmp(argv[1], "run"))
        return run(argc - 2, argv + 2);
    int i = argc > 1 ? index_of(table_names, (int)n_tables, argv[1]) : 0;
    if (argc > 2 || i < 0)
        return print_usage(stderr), 2;
    for (size_t k = 0; k < n_tables; k++)
        if (argc == 1 || k == (size_t)i) {
            if (k && argc == 1)
                puts("");
            table_print(k);
        }
    return 0;
}
