#include "scalesim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EACH(expression)                                                                                                           \
    {                                                                                                                              \
        (void)r;                                                                                                                   \
        for (int t = 0; t < seconds; t++)                                                                                          \
            rate[t] = (expression);                                                                                                \
    }
#define SHAPE(name, expression) static void name(double *rate, int seconds, struct rng *r) EACH(expression)

SHAPE(constant, 45)
SHAPE(low, 8)
SHAPE(step2, t < 120 || t >= 420 ? 30 : 60)
SHAPE(step10, t < 120 || t >= 420 ? 15 : 150)
SHAPE(ramp, t < 60 ? 10 : t < 360 ? 10 + (t - 60) * 0.4 : t < 480 ? 130 : 20)
SHAPE(spike, t >= 200 && t < 215 ? 200 : 25)
SHAPE(sawtooth, 20 + t % 120)
SHAPE(sine, 60 + 50 * sin(t * 2 * M_PI / 240))
SHAPE(onoff, t % 240 < 120 ? 60 : 0)
SHAPE(flap_low, t % 20 < 10 ? 8.5 : 10.5)
SHAPE(flap_mid, t % 20 < 10 ? 34 : 42)
SHAPE(flap_high, t % 20 < 10 ? 145 : 165)
SHAPE(flap_twice, t % 20 < 10 ? 30 : 60)
SHAPE(slow, t < 120 || t >= 420 ? 3 : 9)
SHAPE(contend, (t / 150) % 2 ? 40 : 90)

static void walk(double *rate, int seconds, struct rng *r)
{
    double v = 50;
    for (int t = 0; t < seconds; t++) {
        v *= exp(rng_normal(r) * 0.06);
        v = fmin(fmax(v, 5), 200);
        rate[t] = v;
    }
}

#define BASE .mu = 10, .spread = 0.5, .start_min_s = 1, .start_max_s = START_MAX_S, .report_s = 1

const struct load loads[] = {
    {"constant", "45/s", constant, 600, BASE, .constant = true},
    {"low", "8/s: less than one instance takes", low, 600, BASE, .constant = true},
    {"step2", "30 -> 60 -> 30/s", step2, 600, BASE, .step_s = 120, .step_end_s = 420},
    {"step10", "15 -> 150 -> 15/s", step10, 600, BASE, .step_s = 120, .step_end_s = 420},
    {"ramp", "10 to 130/s in 5 minutes, then down at once", ramp, 600, BASE},
    {"spike", "25/s, and 200/s for 15 s", spike, 600, BASE},
    {"sawtooth", "20 to 140/s, again and again", sawtooth, 600, BASE},
    {"sine", "10 to 110/s in 4 minutes", sine, 720, BASE},
    {"onoff", "60/s for 2 minutes, nothing for 2", onoff, 720, BASE, .to_zero = true},
    {"flap1", "around what one instance takes", flap_low, 600, BASE},
    {"flap4", "around what four take", flap_mid, 600, BASE},
    {"flap16", "around what sixteen take", flap_high, 600, BASE},
    {"flap2x", "30/s for 10 s, 60/s for 10 s", flap_twice, 600, BASE},
    {"heavytail", "45/s in bursts of Pareto sizes; service times of sigma 1.5", constant, 600, .mu = 10, .spread = 1.5,
     .start_min_s = 1, .start_max_s = START_MAX_S, .report_s = 1, .arrivals = HEAVY_TAIL},
    {"walk", "a random walk, 5 to 200/s", walk, 900, BASE},
    {"slow", "messages of 2 s, 3 -> 9 -> 3/s", slow, 600, .mu = 0.5, .spread = 0.5, .start_min_s = 1, .start_max_s = START_MAX_S,
     .report_s = 1, .step_s = 120, .step_end_s = 420},
    {"coldstart", "step2 with instances that take 10 to 15 s to start", step2, 600, .mu = 10, .spread = 0.5, .start_min_s = 10,
     .start_max_s = 15, .report_s = 1, .step_s = 120, .step_end_s = 420},
    {"sparse", "step2 with a report each 5 s", step2, 600, .mu = 10, .spread = 0.5, .start_min_s = 1, .start_max_s = START_MAX_S,
     .report_s = 5, .step_s = 120, .step_end_s = 420},
    {"stuck", "45/s, and a message that nobody can settle", constant, 600, BASE, .stuck_s = 150},
    {"hung", "45/s, and an instance stops working", constant, 600, BASE, .hung_s = 150},
    {"gap", "step2, and no figures from 10 s before the step to 20 s after", step2, 600, BASE, .step_s = 120, .step_end_s = 420,
     .gap_s = 110, .gap_end_s = 140},
    {"boaster", "45/s, instances say they are 10 times as fast", constant, 600, BASE, .lies = 10, .lie_s = 120, .lie_end_s = 480},
    {"malingerer", "45/s, instances say they are 10 times as slow", constant, 600, BASE, .lies = 0.1, .lie_s = 120,
     .lie_end_s = 480},
    {"contend", "two tenants, 40 or 90/s in turn, share 16 instances", contend, 900, BASE, .contenders = 2, .slots = 16},
    {"database", "step10, but the database takes 80/s", step10, 600, BASE, .ceiling_per_s = 80},
};
const size_t n_loads = sizeof loads / sizeof *loads;

/* ---- a trace ---- */

static struct {
    int n;
    double t[MAX_SECONDS], rate[MAX_SECONDS];
} trace;

static void from_trace(double *rate, int seconds, struct rng *r)
{
    (void)r;
    for (int t = 0, i = 0; t < seconds; t++) { /* each line holds until the next one */
        while (i + 1 < trace.n && trace.t[i + 1] <= t)
            i++;
        rate[t] = trace.rate[i];
    }
}

const struct load *load_from_trace(const char *path)
{
    static struct load l = {"trace", "a file", from_trace, 0, BASE};
    char line[256];
    int n = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        return perror(path), NULL;
    while (fgets(line, sizeof line, f)) {
        double t, rate;
        n++;
        if (sscanf(line, "%lf,%lf", &t, &rate) != 2) {
            if (n == 1 || *line == '#' || *line == '\n')
                continue; /* a header */
            fprintf(stderr, "%s:%d: a line is t_s,arrivals_per_s\n", path, n);
            fclose(f);
            return NULL;
        }
        if (trace.n == MAX_SECONDS || t < 0 || rate < 0 || t >= MAX_SECONDS || (trace.n && t <= trace.t[trace.n - 1])) {
            fprintf(stderr, "%s:%d: times rise, up to %d s; rates are not negative\n", path, n, MAX_SECONDS);
            fclose(f);
            return NULL;
        }
        trace.t[trace.n] = t;
        trace.rate[trace.n++] = rate;
    }
    fclose(f);
    if (!trace.n)
        return fprintf(stderr, "%s: it is empty\n", path), NULL;
    l.seconds = (int)trace.t[trace.n - 1] + 60;
    l.seconds = l.seconds > MAX_SECONDS ? MAX_SECONDS : l.seconds;
    double peak = 0;
    for (int i = 0; i < trace.n; i++)
        peak = fmax(peak, trace.rate[i]);
    l.mu = fmax(10, peak / (MAX_COUNT * 0.7)); /* so that the agreement can take it */
    return &l;
}
