#include "scaling_law.h"

#include <math.h>
#include <string.h>

const struct scale_settings scale_defaults = {.utilisation = 0.95,
                                              .drain_target_s = 10,
                                              .window_s = 8,
                                              .tolerance = 0.15,
                                              .max_report_age_s = 15,
                                              .max_average_s = NAN,
                                              .min_processing_per_s = NAN};

/* What each constant guards against; docs/scaling.md has the measurements. */
#define SIGMAS           3.5  /* chance that looks like a change: 2 of 10,000 samples differ by more standard deviations */
#define VARIANCE_WINDOWS 4    /* a variance learnt from too few samples: it is smoothed over so many windows */
#define UNDER_WAY_S      1.5  /* messages that are merely being worked on counted as a backlog: arrivals of this time */
#define ROUNDING         0.05 /* steps to and fro for a fraction of an instance: the band around a whole number */
#define SETTLED_WINDOWS  2    /* a smoothed figure used too soon: it has settled after so many windows */
#define IDLE_WINDOWS     8    /* an instance started and stopped for each message of a slow trickle */
#define NEARLY_ALL       0.9  /* an instance between two messages taken for an idle one */
#define ENOUGH_SETTLED   30.0 /* a speed judged by a few messages */
#define BELIEVED         2.0  /* wrong reports: mu may be off by this factor from what the broker sees settled */
#define SAME_LOAD        0.1  /* a changed load taken for a mistake of the controller: loads differ by less than this */
#define MISTAKE_S        600  /* the same mistake repeated: a step down, a trial or a correction is not tried again for so long */
#define SUSPECT_S        10   /* a short disturbance taken for a bottleneck */
#define SUSPICIOUS       0.5  /* a bottleneck elsewhere: all are busy, and settle less than this share of their best speed */
#define CEILING_WRONG    0.85 /* a ceiling that is none: fewer instances settle less than this share of what more did */
#define CEILING_S        30   /* a bottleneck that has gone: more instances are tried again, after twice as long each time */
#define MAX_DOUBLINGS    5    /* waits that grow without bound */
#define GROWTH_HELPS     0.25 /* an average that more instances do not improve: a trial has to bring this share of its promise */
#define START_PATIENCE_S 60   /* a trial whose instances never start */
#define MAX_NEED         1e6  /* a need that does not fit into a count */

static bool known(double v)
{
    return isfinite(v) && v >= 0;
}

static int64_t clamp(int64_t n, int64_t min, int64_t max)
{
    return n < min ? min : n > max ? max : n;
}

/* The weight in an exponential mean over tau of a sample that covers dt. */
static double weight(double dt, double tau)
{
    return 1 - exp(-dt / tau);
}

/* How long to wait before the n-th attempt in a row: twice as long each time. */
static double backoff(double first_s, int *n)
{
    double wait = first_s * (double)(1 << *n);
    *n += *n < MAX_DOUBLINGS;
    return wait;
}

/* Down by half at most, so that one wrong figure does not take everything away. */
static int64_t at_least_half(int64_t current, int64_t desired)
{
    int64_t half = (current + 1) / 2;
    return desired > half ? desired : half;
}

/* ---- arrivals ---- */

static double deviation(const struct scale_memory *m, double dt)
{
    return sqrt(fmax(m->variance, fmax(m->lambda, 1) / dt)); /* at least that of Poisson arrivals */
}

/* Smooths what differs by chance, and follows what does not. A change counts when two samples in a row agree. A rise of twice the
 * size counts at once, since waiting costs most then; so does the sample after it, because the first one also covers the time
 * before the rise. */
static void learn_arrivals(const struct scale_settings *s, struct scale_memory *m, double rate, double dt)
{
    if (!m->begun) {
        m->lambda = m->rate = m->variance = rate;
        return;
    }
    double sure = SIGMAS * deviation(m, dt), off = rate - m->lambda;
    double low = fmin(rate, m->rate), high = fmax(rate, m->rate);
    bool rose = off > 2 * sure;
    if (rose || (m->rose && off > 0))
        m->lambda = rate;
    else if (low > m->lambda + sure)
        m->lambda = low;
    else if (high < m->lambda - sure)
        m->lambda = high;
    else
        m->lambda += weight(dt, s->window_s) * off;
    /* From one sample to the next, and bounded, so that a step does not pass for variance. */
    double change = fmin(fabs(rate - m->rate), 2 * sure);
    m->variance += weight(dt, s->window_s * VARIANCE_WINDOWS) * (change * change / 2 - m->variance);
    m->rate = rate;
    m->rose = rose;
}

/* The backlog without what is merely under way at this rate: arrivals of UNDER_WAY_S, chance, and a message an instance. */
static double waiting(const struct scale_settings *s, double lambda, const struct scale_input *in)
{
    double under_way = lambda * fmin(UNDER_WAY_S, s->drain_target_s / 2);
    return fmax(0, in->ready + in->leased - under_way - SIGMAS * sqrt(fmax(under_way, 1)) - (double)in->instances);
}

/* The tolerance, or what chance alone does to a smoothed rate where that is more: many arrivals are steadier than few. */
static double tolerance(const struct scale_settings *s, double lambda, double variance, double dt)
{
    double w = weight(dt > 0 ? dt : 1, s->window_s);
    if (lambda <= 0)
        return s->tolerance;
    return fmax(s->tolerance, fmin(SIGMAS * sqrt(fmax(variance, lambda) * w / (2 - w)) / lambda, 1));
}

/* ---- the speed of an instance ---- */

/* Messages a busy second of an instance; 0: not known. */
static double mu_of(const struct scale_memory *m)
{
    return m->trust > 0 ? m->mu * m->trust : m->mu;
}

/* What one settles at least: all that is settled, over all there are. */
static double least_speed(const struct scale_memory *m)
{
    return m->there > 0 ? m->settled / m->there : 0;
}

/* What one settles while it holds a message. Only where some held one at each sample for long: figures that are taken right after
 * the work, when hardly any instance holds a message, would make instances look fast without end. */
static double seen_speed(const struct scale_settings *s, const struct scale_memory *m)
{
    double least = least_speed(m);
    return m->holding_s >= s->window_s * SETTLED_WINDOWS ? fmax(m->settled / fmax(m->holding, 1), least) : least;
}

/* What one settles when it is never without a message; NaN: that was not seen for long enough. */
static double full_speed(const struct scale_memory *m)
{
    return m->full_settled >= ENOUGH_SETTLED ? m->full_settled / m->full_s / (double)m->count : NAN;
}

/* Before the decision: what instances report, or, where they never do, what was measured while all of them were busy. */
static void learn_reported(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *in, double dt)
{
    if (known(in->acks_per_busy_s) && in->acks_per_busy_s > 0) {
        m->mu += (m->trust > 0 ? weight(dt, s->window_s) : 1) * (in->acks_per_busy_s - m->mu);
        m->trust = m->trust > 0 ? m->trust : 1;
    } else if (m->trust <= 0 && full_speed(m) > 0) {
        m->mu = full_speed(m);
    }
}

/* Holds reports against what the broker sees settled: instances are no faster than when all are busy, and no slower than is seen
 * of them. behind: more waits than should, and no instance is idle. */
static void hold_against(const struct scale_settings *s, struct scale_memory *m, bool behind)
{
    double said = mu_of(m), full = full_speed(m), seen = seen_speed(s, m);
    if (said <= 0 || m->trust <= 0)
        return;
    if (behind && m->trust > 1 && said > least_speed(m)) { /* they were held to be faster than they report, and are not */
        m->trust = fmax(1, m->trust * least_speed(m) / said);
        m->holding_s = -MISTAKE_S;
    } else if (said > full * BELIEVED || (m->trust < 1 && said < full)) {
        m->trust = fmin(m->trust * full / said, 1);
    } else if (said < seen / BELIEVED) {
        m->trust *= seen / said;
    }
}

/* While all are busy and more wait than came in since the last sample, no instance was ever without a message. */
static void see_full(struct scale_memory *m, const struct scale_input *in, double settled, double dt)
{
    double n = (double)in->instances;
    bool full = n > 0 && in->leased >= n * NEARLY_ALL && in->ready >= fmax(n, in->ingress_per_s * dt);
    if (full && m->count == in->instances && m->full_s >= 0) {
        m->full_s += dt;
        m->full_settled += settled * dt;
        return;
    }
    m->full_s = full ? 0 : -1; /* this sample covers the time before, too */
    m->full_settled = 0;
}

/* After the decision: what is seen counts the next time, so that more arrivals, or a larger backlog, never make for fewer
 * instances. */
static void learn_seen(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *in, double dt)
{
    double n = (double)in->instances, backlog = in->ready + in->leased, held = fmin(in->leased, n);
    if (m->begun) {
        double w = weight(dt, s->window_s), settled = fmax(0, in->ingress_per_s - (backlog - m->backlog) / dt);
        m->settled += w * (settled - m->settled); /* both from nothing: their ratio is right from the beginning */
        m->there += w * (fmax(n, (double)m->count) - m->there);
        m->holding += w * (held - m->holding);
        m->holding_s = held >= 1 || m->holding_s < 0 ? m->holding_s + dt : 0;
        see_full(m, in, settled, dt);
    }
    m->backlog = backlog;
    m->count = in->instances;
    hold_against(s, m, in->leased >= n * NEARLY_ALL && waiting(s, m->lambda, in) > 0);
    if (m->there > 0.5) /* a speed of hardly a sample is chance */
        m->best = fmax(m->best, seen_speed(s, m));
}

/* ---- the window ---- */

static void remember(const struct scale_settings *s, struct scale_memory *m, double now_s, double need)
{
    unsigned last = (m->head + SCALE_SLICES - 1) % SCALE_SLICES;
    if (m->begun && now_s - m->needs[last].at_s < s->window_s / (SCALE_SLICES / 2.0)) {
        m->needs[last].need = fmax(need, m->needs[last].need);
        return;
    }
    m->needs[m->head].at_s = now_s;
    m->needs[m->head].need = need;
    m->head = (m->head + 1) % SCALE_SLICES;
}

static double largest(const struct scale_settings *s, const struct scale_memory *m, double now_s, double need)
{
    for (unsigned i = 0; i < SCALE_SLICES; i++)
        if (m->needs[i].at_s > 0 && now_s - m->needs[i].at_s <= s->window_s)
            need = fmax(need, m->needs[i].need);
    return need;
}

static int64_t down(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in, int64_t current,
                    double need)
{
    int64_t most = (int64_t)ceil(largest(s, m, in->now_s, need) * (1 + ROUNDING) - 1e-9);
    if (in->now_s < m->floor_until_s && m->lambda > m->down_lambda * (1 - SAME_LOAD) && most < m->down_from)
        most = m->down_from;
    if (most >= current)
        return current;
    if (current == 1)
        return in->now_s - m->active_at_s >= s->window_s * IDLE_WINDOWS ? 0 : 1;
    return at_least_half(current, most);
}

/* A step down that had to be taken back under the same load was a mistake: fewer are too few for it. */
static void note_step(struct scale_memory *m, double now_s, int64_t current, int64_t desired)
{
    if (desired < current) {
        m->down_lambda = m->lambda;
        m->down_from = current;
        m->floor_until_s = 0;
    } else if (desired > current && m->down_from && fabs(m->lambda - m->down_lambda) <= SAME_LOAD * m->down_lambda) {
        m->down_from = desired < m->down_from ? desired : m->down_from;
        m->floor_until_s = now_s + MISTAKE_S;
    }
}

/* ---- a bottleneck elsewhere: the database, a quota ---- */

/* All are busy for long, each settles far less than one can, and still it is not enough: as many as what they settle needs would
 * do. Where fewer then settle less, messages have become heavier, and the best speed is what is seen now. */
static void judge_ceiling(struct scale_memory *m, const struct scale_input *in, double need)
{
    double n = (double)in->instances, settled = m->full_s > 0 ? m->full_settled / m->full_s : NAN;
    if (m->ceiling && m->full_settled >= ENOUGH_SETTLED && in->instances <= m->ceiling &&
        settled < m->ceiling_settled * CEILING_WRONG) {
        m->ceiling = m->ceilings = 0;
        m->best = settled / n;
    } else if (m->ceiling) {
        m->ceiling = in->now_s < m->ceiling_until_s ? m->ceiling : 0;
    } else if (m->full_s >= SUSPECT_S && need > n && settled < n * m->best * SUSPICIOUS) {
        m->ceiling = clamp((int64_t)ceil(settled / m->best), 1, in->instances);
        m->ceiling_settled = settled;
        m->ceiling_until_s = in->now_s + backoff(CEILING_S, &m->ceilings);
    } else if (in->now_s - m->ceiling_until_s > MISTAKE_S) {
        m->ceilings = 0;
    }
}

/* ---- the rules on time and rate ---- */

static bool is_slow(const struct scale_settings *s, const struct scale_input *in)
{
    return known(s->max_average_s) && known(in->average_s) && in->average_s > s->max_average_s;
}

/* More instances make a message faster only where they were in one another's way. So a few more are tried, a quarter at most, and
 * there are no others until it is known what those brought. 0: no trial now. */
static int64_t try_for_average(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in)
{
    int64_t n = in->instances, quarter = n / 4 > 1 ? n / 4 : 1;
    if (!is_slow(s, in) || m->trial_from || in->now_s < m->trial_at_s || n < 1)
        return 0;
    double missing = ceil((double)n * (in->average_s / fmax(s->max_average_s, 1e-9) - 1));
    return n + (missing < (double)quarter ? (int64_t)fmax(missing, 1) : quarter);
}

/* Ends a trial when it can be judged. The count to go back to, when it did not help; else 0. */
static int64_t judge_trial(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *in)
{
    int64_t from = m->trial_from;
    double took = in->now_s - m->trial_at_s, more = (double)in->instances / (double)(from ? from : 1) - 1;
    if (!from || took < s->window_s * SETTLED_WINDOWS || (in->instances < m->desired && took < START_PATIENCE_S))
        return 0;
    m->trial_from = 0;
    if (more > 0 && known(in->average_s) && m->trial_before >= in->average_s * (1 + GROWTH_HELPS * more)) {
        m->trial_at_s = in->now_s;
        m->trials = 0;
        return 0;
    }
    m->trial_at_s = in->now_s + backoff(MISTAKE_S, &m->trials);
    return from;
}

static double need_for_rate(const struct scale_settings *s, const struct scale_input *in, double waits)
{
    if (known(s->min_processing_per_s) && known(in->processing_per_s) && waits > 0 &&
        in->processing_per_s < s->min_processing_per_s)
        return (double)in->instances * fmin(s->min_processing_per_s / fmax(in->processing_per_s, 1e-9), 2);
    return 0;
}

/* ---- the decision ---- */

/* What this decision is made of. */
struct view {
    int64_t current, trial, back;
    double lambda, variance, dt; /* as they were before this sample: else, with more arrivals, less would seem to wait */
    double waits, steady, need;  /* steady: the need for arrivals alone */
    double by_rule;              /* the need for min_processing_per_s */
    bool is_trial;
};

static bool is_fresh(const struct scale_settings *s, const struct scale_input *in)
{
    return isfinite(in->now_s) && known(in->report_age_s) && in->report_age_s <= s->max_report_age_s && known(in->ingress_per_s) &&
           known(in->ready) && known(in->leased) && in->instances >= 0;
}

static struct scale_decision hold(int64_t current, int64_t min, int64_t max, const char *why)
{
    return (struct scale_decision){clamp(current, min, max), why};
}

/* The law of scaling_law.h. */
static double need_of(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in, double waits,
                      double *ret_steady)
{
    double mu = mu_of(m);
    *ret_steady = 0;
    if (in->ingress_per_s <= 0 && in->ready + in->leased <= 0)
        return 0;
    if (mu <= 0) /* how fast an instance is will be known when there is one */
        return in->instances > 0 ? (double)in->instances : 1;
    *ret_steady = m->lambda / s->utilisation / mu;
    return fmin(fmax(*ret_steady + waits / s->drain_target_s / mu, 1e-6), MAX_NEED);
}

static void look(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *in, struct view *v)
{
    v->lambda = m->lambda;
    v->variance = m->variance;
    learn_arrivals(s, m, in->ingress_per_s, v->dt);
    learn_reported(s, m, in, v->dt);
    v->back = judge_trial(s, m, in);
    v->trial = try_for_average(s, m, in);
    v->waits = waiting(s, m->lambda, in);
    v->by_rule = need_for_rate(s, in, v->waits);
    v->need = fmax(need_of(s, m, in, v->waits, &v->steady), v->by_rule);
    v->is_trial = v->trial > v->current && (double)v->trial > v->need;
}

/* Up at once. While instances are starting, the backlog has to ask for more than the tolerance on top: it is what they were
 * ordered for. */
static bool has_to_grow(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in,
                        const struct view *v)
{
    double n = (double)v->current, beyond = in->instances < v->current ? s->tolerance : 0;
    return (v->need > 0 && !v->current) || v->is_trial || v->by_rule > n ||
           v->steady > n * (1 + tolerance(s, m->lambda, v->variance, v->dt)) ||
           (v->need > n * (1 + beyond) && waiting(s, v->lambda, in) > 0);
}

static int64_t grown(const struct view *v, const char **ret_reason)
{
    int64_t n = v->is_trial ? v->trial : (int64_t)ceil(v->need - ROUNDING), least = v->current > 0 ? v->current : 1;
    *ret_reason = v->is_trial                               ? "a message takes longer than max_average_ingestion_ms"
                  : v->by_rule > 0 && v->by_rule >= v->need ? "fewer messages are processed than min_processing_rate"
                  : !v->current                             ? "messages came"
                  : v->waits > 0                            ? "a backlog has piled up"
                                                            : "more comes in than they can take";
    return n > least ? n : least;
}

/* What is tried stays until it is judged, and goes at once when it did not help. */
static int64_t shrunk(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in,
                      const struct view *v, const char **ret_reason)
{
    int64_t n = m->trial_from ? v->current : down(s, m, in, v->current, v->need);
    if (v->back && v->back < n && v->need <= (double)v->back)
        n = at_least_half(v->current, v->back);
    if (n < v->current)
        *ret_reason = n ? "fewer are enough, and were for a while" : "nothing came for a while";
    if (is_slow(s, in) && !m->trial_from && in->now_s < m->trial_at_s)
        *ret_reason = "more of them did not make a message faster, which takes longer than max_average_ingestion_ms";
    return n;
}

static void conclude(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *in, const struct view *v,
                     int64_t desired)
{
    if (v->is_trial && desired == v->trial) {
        m->trial_from = in->instances;
        m->trial_at_s = in->now_s;
        m->trial_before = in->average_s;
    }
    learn_seen(s, m, in, v->dt);
    judge_ceiling(m, in, v->need);
    note_step(m, in->now_s, v->current, desired);
    m->measured_s = in->now_s - in->report_age_s;
    m->begun = true;
    m->desired = desired;
}

struct scale_decision scale_decide(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *given)
{
    struct scale_input within = *given;
    const struct scale_input *in = &within;
    within.instances = clamp(given->instances, 0, (int64_t)MAX_NEED);
    int64_t min = in->min > 0 ? in->min : 0, max = in->max > min ? in->max : min, desired;
    struct view v = {.current = clamp(m->begun || m->adopted ? m->desired : in->instances, 0, (int64_t)MAX_NEED)};
    const char *reason = "as many as are needed";
    if (!is_fresh(s, in))
        return hold(v.current, min, max, "no fresh figures: the count holds");
    v.dt = m->begun ? in->now_s - in->report_age_s - m->measured_s : 0;
    if (m->begun && v.dt < -s->window_s) { /* another clock */
        *m = (struct scale_memory){.desired = m->desired, .adopted = true};
        v.dt = 0;
    } else if (m->begun && v.dt < 1e-3) {
        return hold(v.current, min, max, "nothing new: the count holds");
    }
    look(s, m, in, &v);
    if (v.need > 0)
        m->active_at_s = in->now_s;
    remember(s, m, in->now_s, m->begun ? v.need : fmax(v.need, (double)v.current)); /* what there is stays for a window */
    desired = has_to_grow(s, m, in, &v) ? grown(&v, &reason) : shrunk(s, m, in, &v, &reason);
    if (m->ceiling && desired > m->ceiling) {
        desired = at_least_half(v.current, m->ceiling);
        reason = "more of them did not settle more: something else is the bottleneck";
    }
    if (clamp(desired, min, max) != desired)
        reason = desired > max ? "max_instances" : "min_instances";
    desired = clamp(desired, min, max);
    conclude(s, m, in, &v, desired);
    return (struct scale_decision){desired, reason};
}

void scale_adopt(const struct scale_settings *s, struct scale_memory *m, double now_s, int64_t desired)
{
    if (m->begun && desired > m->desired)
        remember(s, m, now_s, (double)desired);
    m->desired = desired;
    m->adopted = true;
}
