/* The policies: ours is programs/monitor/scaling_law.c itself, the others are made from what is published of them, and an oracle
 * that knows the load. Each has settings; `best` is the one with the least time out of SLO among those that stay within 2.5 times
 * the oracle's instance-seconds over all loads (scalesim --tune, seeds 1 to 15). */
#include "scalesim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int at_least(int n, int least)
{
    return n > least ? n : least;
}

/* ---- ours ---- */

static int ours(void *state, int setting, const struct seen *s, const struct truth *truth)
{
    (void)truth;
    (void)setting;
    struct scale_input in = {.now_s = s->t,
                             .ingress_per_s = s->ingress_per_s,
                             .ready = s->ready,
                             .leased = s->leased,
                             .acks_per_busy_s = s->acks_per_busy_s,
                             .average_s = NAN,
                             .processing_per_s = NAN,
                             .instances = s->instances,
                             .min = s->min,
                             .max = s->max,
                             .report_age_s = s->at > 0 ? s->t - s->at : NAN};
    return (int)scale_decide(&our_settings, state, &in).desired;
}

static const char *const no_settings[] = {"its defaults"};

/* ---- fixed: sized once for a multiple of the mean load ---- */

static const char *const fixed_settings[] = {"mean load", "1.25 x", "1.5 x", "2 x", "2.5 x", "3 x"};

static int fixed(void *state, int setting, const struct seen *s, const struct truth *truth)
{
    static const double factors[] = {1, 1.25, 1.5, 2, 2.5, 3};
    (void)state;
    return at_least((int)ceil(truth->mean_per_s * factors[setting] / truth->load->mu), at_least(s->min, 1));
}

/* ---- threshold: one more when much waits, one less when nothing does ---- */

static const char *const threshold_settings[] = {
    "5 waiting an instance, every 1 s", "5, every 5 s", "5, every 15 s", "20, every 1 s", "20, every 5 s", "20, every 15 s"};

static int threshold(void *state, int setting, const struct seen *s, const struct truth *truth)
{
    static const double waiting[] = {5, 5, 5, 20, 20, 20}, every[] = {1, 5, 15, 1, 5, 15};
    double *last = state;
    (void)truth;
    if (!s->fresh || s->t - *last < every[setting])
        return -1;
    *last = s->t;
    if (s->ready > waiting[setting] * at_least(s->wanted, 1))
        return s->wanted < s->max ? s->wanted + 1 : s->max;
    return s->ready < 1 && s->busy < 0.8 && s->wanted > s->min ? s->wanted - 1 : s->wanted;
}

/* ---- HPA: Kubernetes' HorizontalPodAutoscaler, v2 (kubernetes.io, "Horizontal Pod Autoscaling", algorithm details and default
 * behavior): desired = ceil(current * metric / target), nothing within a tolerance of 0.1, looked at every 15 s; up by 4 or by 100
 * % in 15 s, whichever is more; down to the largest recommendation of the stabilisation window (300 s by default) ---- */

struct hpa {
    double at;
    struct {
        double t;
        int n;
    } recent[512];
    int n_recent;
};

static int hpa_step(struct hpa *h, int now, double ratio, double stabilisation_s, double t)
{
    int wanted = fabs(ratio - 1) <= 0.1 ? now : (int)ceil(now * ratio), most;
    if (h->n_recent == 512) {
        memmove(h->recent, h->recent + 1, 511 * sizeof *h->recent);
        h->n_recent--;
    }
    h->recent[h->n_recent].t = t;
    h->recent[h->n_recent++].n = most = wanted;
    for (int i = 0; i < h->n_recent; i++)
        if (t - h->recent[i].t <= stabilisation_s && h->recent[i].n > most)
            most = h->recent[i].n;
    if (wanted > now) {
        int limit = at_least(now + 4, now * 2);
        return wanted < limit ? wanted : limit;
    }
    return most < now ? most : now;
}

static const char *const hpa_settings[] = {"80 % busy, 300 s", "70 %, 300 s", "60 %, 300 s", "50 %, 300 s",
                                           "80 %, 60 s",       "70 %, 60 s",  "60 %, 60 s",  "50 %, 60 s"};

static int hpa(void *state, int setting, const struct seen *s, const struct truth *truth)
{
    static const double targets[] = {0.8, 0.7, 0.6, 0.5, 0.8, 0.7, 0.6, 0.5}, windows[] = {300, 300, 300, 300, 60, 60, 60, 60};
    struct hpa *h = state;
    int now = at_least(s->wanted, 1);
    (void)truth;
    if (!s->fresh || s->t - h->at < 15)
        return -1;
    h->at = s->t;
    return at_least(hpa_step(h, now, s->busy / targets[setting], windows[setting], s->t), at_least(s->min, 1));
}

/* ---- KEDA: lag of a queue (keda.sh, scalers of queues): desired = ceil(lag / lag threshold), through the HPA; polled every 30 s
 * for 0 -> 1, zero after a cooldown of 300 s ---- */

struct keda {
    struct hpa hpa;
    double active;
};

static const char *const keda_settings[] = {
    "a lag of 2 an instance, 300 s", "5, 300 s", "10, 300 s", "30, 300 s", "2, 60 s", "5, 60 s", "10, 60 s", "30, 60 s"};

static int keda(void *state, int setting, const struct seen *s, const struct truth *truth)
{
    static const double lags[] = {2, 5, 10, 30, 2, 5, 10, 30}, windows[] = {300, 300, 300, 300, 60, 60, 60, 60};
    struct keda *k = state;
    double lag = s->ready + s->leased;
    int now = at_least(s->wanted, 1);
    (void)truth;
    if (s->fresh && lag > 0)
        k->active = s->t;
    if (s->wanted == 0)
        return s->fresh && lag > 0 ? 1 : 0;
    if (!s->fresh || s->t - k->hpa.at < 15)
        return -1;
    k->hpa.at = s->t;
    if (!s->min && s->t - k->active > 300)
        return 0;
    int n = hpa_step(&k->hpa, now, lag / lags[setting] / now, windows[setting], s->t);
    return at_least(n, 1);
}

/* ---- DS2 (Kalavri et al., "Three steps is all you need: fast, accurate, automatic scaling decisions for distributed streaming
 * dataflows", OSDI 2018): arrivals over the true rate, every policy interval, with a target utilisation below 1 for what has piled
 * up ---- */

struct ds2 {
    double at, arrivals, rate;
    int n;
};

static const char *const ds2_settings[] = {"every 30 s, 100 %", "30 s, 90 %", "30 s, 80 %", "30 s, 70 %",
                                           "10 s, 100 %",       "10 s, 90 %", "10 s, 80 %", "10 s, 70 %"};

static int ds2(void *state, int setting, const struct seen *s, const struct truth *truth)
{
    static const double every[] = {30, 30, 30, 30, 10, 10, 10, 10}, targets[] = {1, 0.9, 0.8, 0.7, 1, 0.9, 0.8, 0.7};
    struct ds2 *d = state;
    (void)truth;
    if (!s->fresh)
        return -1;
    if (!s->instances && s->ready > 0)
        return at_least(s->wanted, 1);
    d->arrivals += s->ingress_per_s;
    d->n++;
    if (s->acks_per_busy_s > 0)
        d->rate = d->rate > 0 ? d->rate + 0.2 * (s->acks_per_busy_s - d->rate) : s->acks_per_busy_s;
    if (s->t - d->at < every[setting] || d->rate <= 0)
        return -1;
    int n = (int)ceil(d->arrivals / d->n / d->rate / targets[setting]);
    d->at = s->t;
    d->arrivals = 0;
    d->n = 0;
    return at_least(n, at_least(s->min, s->ready > 0));
}

/* ---- the oracle: what will be needed when an instance that starts now is there ---- */

static int know(void *state, int setting, const struct seen *s, const struct truth *truth)
{
    const struct load *l = truth->load;
    int most = 0;
    (void)state;
    (void)setting;
    for (int t = (int)s->t; t <= (int)(s->t + l->start_max_s + l->report_s) && t < truth->seconds; t++) {
        double rate = l->ceiling_per_s > 0 ? fmin(truth->rate[t], l->ceiling_per_s) : truth->rate[t];
        most = at_least((int)ceil(rate / l->mu), most);
    }
    return at_least(most, s->min);
}

#define SETTINGS(v) (int)(sizeof(v) / sizeof *(v)), v
const struct policy policies[] = {
    {"ours", "monitor/scaling_law.c", SETTINGS(no_settings), 0, sizeof(struct scale_memory), ours},
    {"fixed", "as many all the time", SETTINGS(fixed_settings), 4, 0, fixed},
    {"threshold", "one more, one less", SETTINGS(threshold_settings), 0, sizeof(double), threshold},
    {"hpa", "Kubernetes' HPA on how busy they are", SETTINGS(hpa_settings), 7, sizeof(struct hpa), hpa},
    {"keda", "KEDA on what waits", SETTINGS(keda_settings), 0, sizeof(struct keda), keda},
    {"ds2", "arrivals over the true rate", SETTINGS(ds2_settings), 7, sizeof(struct ds2), ds2},
    {"oracle", "ceil(lambda / mu), known ahead", SETTINGS(no_settings), 0, 0, know},
};
const size_t n_policies = sizeof policies / sizeof *policies;
const struct policy *const oracle = &policies[sizeof policies / sizeof *policies - 1];
