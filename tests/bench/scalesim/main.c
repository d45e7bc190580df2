#include "scalesim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: scalesim [--policy P|all] [--load L|all] [--trace FILE] [--seeds N] [--first-seed S] [--setting K]\n"
    "                [--utilisation U] [--drain-target S] [--window S] [--json] [--tune] [--timeline] [--list]\n"
    "Scaling policies on simulated stream apps. Figures are means over the seeds (2 N of two tenants).\n"
    "--trace FILE   a load of lines t_s,arrivals_per_s; each holds until the next\n"
    "--setting K    of the policy, instead of its best one; --list names them all\n"
    "--timeline     what happens in each run: load,policy,app,t_s,arrivals_per_s,wanted,instances,ready,oldest_s\n"
    "--tune         the sums over all loads of every setting of every policy\n"
    "slo_s: seconds with the oldest message older than 5 s; cost: instance-seconds over the oracle's; settling_s, overshoot: after "
    "the\n"
    "step of loads that have one; age_p99_s: of messages when they are settled.\n";

struct options {
    const char *policy, *load;
    const struct load *trace;
    int seeds, first, setting;
    bool json, tune;
};

static bool is_one(const char *asked, const char *name)
{
    return !strcmp(asked, "all") || !strcmp(asked, name);
}

static struct figures mean(const struct options *o, const struct policy *p, int setting, const struct load *l)
{
    struct figures sum = {0};
    for (int seed = o->first; seed < o->first + o->seeds; seed++) {
        struct figures f = plant_run(p, setting, l, (uint64_t)seed);
        double *to = (double *)&sum, *from = (double *)&f;
        for (size_t i = 0; i < sizeof f / sizeof(double); i++)
            to[i] += from[i] / o->seeds;
    }
    return sum;
}

static void print(const struct options *o, const struct policy *p, const struct load *l, const struct figures *f, double cost)
{
    printf(o->json ? "{\"load\":\"%s\",\"policy\":\"%s\",\"slo_s\":%.2f,\"cost\":%.3f,\"settling_s\":%.1f,\"overshoot\":%.2f,"
                     "\"reversals\":%.2f,\"actions\":%.2f,\"instance_s\":%.0f,\"peak_backlog\":%.0f,\"age_p99_s\":%.1f}\n"
                   : "%-10s %-9s slo %7.2f s  cost %5.2f  settling %5.1f s  overshoot %5.2f  reversals %5.2f  actions %6.2f  "
                     "instance-s %6.0f  peak %6.0f  p99 %5.1f s\n",
           l->name, p->name, f->slo_s, cost, f->settling_s, f->overshoot, f->reversals, f->actions, f->instance_s, f->peak,
           f->age_p99_s);
    fflush(stdout);
}

static void compare(const struct options *o)
{
    for (size_t k = 0; k < (o->trace ? 1 : n_loads); k++) {
        const struct load *l = o->trace ? o->trace : &loads[k];
        if (!o->trace && !is_one(o->load, l->name))
            continue;
        bool shown = timeline;
        timeline = false;
        double least = mean(o, oracle, 0, l).instance_s;
        timeline = shown;
        for (size_t i = 0; i < n_policies; i++) {
            const struct policy *p = &policies[i];
            if (!is_one(o->policy, p->name))
                continue;
            struct figures f = mean(o, p, o->setting >= 0 && o->setting < p->n_settings ? o->setting : p->best, l);
            if (!timeline)
                print(o, p, l, &f, f.instance_s / least);
        }
    }
}

static void tune(const struct options *o)
{
    double least[64];
    for (size_t k = 0; k < n_loads; k++)
        least[k] = mean(o, oracle, 0, &loads[k]).instance_s;
    for (size_t i = 0; i < n_policies; i++)
        for (int s = 0; is_one(o->policy, policies[i].name) && s < policies[i].n_settings; s++) {
            double slo = 0, cost = 0, reversals = 0;
            int n = 0;
            for (size_t k = 0; k < n_loads; k++) {
                if (!is_one(o->load, loads[k].name))
                    continue;
                struct figures f = mean(o, &policies[i], s, &loads[k]);
                slo += f.slo_s;
                cost += f.instance_s / least[k];
                reversals += f.reversals;
                n++;
            }
            printf("%-9s %d%s %-36s slo %8.2f s a load  cost %.3f  reversals %.2f\n", policies[i].name, s,
                   s == policies[i].best ? "*" : " ", policies[i].settings[s], slo / n, cost / n, reversals / n);
            fflush(stdout);
        }
}

static int list(void)
{
    for (size_t k = 0; k < n_loads; k++)
        printf("load   %-10s %s\n", loads[k].name, loads[k].what);
    for (size_t i = 0; i < n_policies; i++) {
        printf("policy %-10s %s\n", policies[i].name, policies[i].what);
        for (int s = 0; s < policies[i].n_settings; s++)
            printf("       %-10s setting %d%s: %s\n", "", s, s == policies[i].best ? " (best)" : "", policies[i].settings[s]);
    }
    return 0;
}

static bool is_known(const char *name, bool is_load)
{
    bool known = !strcmp(name, "all");
    for (size_t i = 0; i < (is_load ? n_loads : n_policies); i++)
        known |= !strcmp(name, is_load ? loads[i].name : policies[i].name);
    if (!known)
        fprintf(stderr, "scalesim: no %s \"%s\"; --list names them\n", is_load ? "load" : "policy", name);
    return known;
}

static bool number(const char *text, double least, double most, double *ret)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= least && v <= most))
        return fprintf(stderr, "scalesim: \"%s\" is no number from %g to %g\n", text, least, most), false;
    *ret = v;
    return true;
}

int main(int argc, char **argv)
{
    struct options o = {"all", "all", NULL, 5, 1, -1, false, false};
    double seeds = o.seeds, first = o.first, setting = o.setting;
    const struct {
        const char *name;
        double *v, least, most;
    } numbers[] = {{"--seeds", &seeds, 1, 10000},
                   {"--first-seed", &first, 0, 1e9},
                   {"--setting", &setting, 0, 100},
                   {"--utilisation", &our_settings.utilisation, 0.05, 1},
                   {"--drain-target", &our_settings.drain_target_s, 0.1, 1000},
                   {"--window", &our_settings.window_s, 1, 3600}};
    our_settings = scale_defaults;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        size_t k = 0;
        if (!strcmp(argv[i], "--help"))
            return fputs(usage, stdout) < 0;
        if (!strcmp(argv[i], "--list"))
            return list();
        bool *flag = !strcmp(argv[i], "--json")       ? &o.json
                     : !strcmp(argv[i], "--tune")     ? &o.tune
                     : !strcmp(argv[i], "--timeline") ? &timeline
                                                      : NULL;
        if (flag) {
            *flag = true;
            continue;
        }
        while (k < sizeof numbers / sizeof *numbers && strcmp(argv[i], numbers[k].name))
            k++;
        bool is_number = k < sizeof numbers / sizeof *numbers;
        if (!value || (is_number && !number(value, numbers[k].least, numbers[k].most, numbers[k].v)))
            return fputs(usage, stderr), 2;
        if (!strcmp(argv[i], "--policy"))
            o.policy = value;
        else if (!strcmp(argv[i], "--load"))
            o.load = value;
        else if (!strcmp(argv[i], "--trace"))
            o.trace = load_from_trace(value);
        else if (!is_number)
            return fputs(usage, stderr), 2;
        if ((!strcmp(argv[i], "--trace") && !o.trace) || !is_known(o.policy, false) || !is_known(o.load, true))
            return 2;
        i++;
    }
    o.seeds = (int)seeds;
    o.first = (int)first;
    o.setting = (int)setting;
    if (o.tune)
        tune(&o);
    else
        compare(&o);
    return 0;
}
