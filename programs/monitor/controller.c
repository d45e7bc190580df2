#include "controller.h"

#include <math.h>
#include <string.h>

const struct scale_settings scale_defaults = {.utilisation = 0.95,
                                              .drain_target_s = 10,
                                              .window_s = 8,
                                              .tolerance = 0.15,
                                              .max_report_age_s = 15,
                                              .max_average_s = NAN,
                                              .min_processing_per_s = NAN};

enum {
    LONG_WINDOWS = 8, /* a small step down looks back over so many windows */
    DOWN_EVERY_S = 2, /* two steps down are so far apart: the first is to show what it did */
    START_S = 4,      /* in which instances commonly have started */
    SEEN_S = 10,      /* what is seen counts after that */
    BY_CHANCE_S = 16, /* so long is to be seen that instances are looked at by chance */
    FULL_S = 1,       /* and so long what they settle without a pause */
    REACHED_S = 5,    /* not sooner is it looked at what a growth brought */
    PLATEAU_S = 4,    /* so long is to be seen what a number of instances settles */
    PLATEAU_SAMPLES = 3,
    SUSPECT_S = 10,
    NO_JUDGEMENT_S = 120,  /* after a mistake */
    START_PATIENCE_S = 60, /* instances that do not come in that time are not waited for */
    CEILING_S = 30,        /* more is tried again after that; twice as long each time */
    MAX_CEILINGS = 5,
    TRIAL_S = 600,  /* more instances for the average's sake are tried again after that; twice as long each time */
    REGRET_S = 300, /* a step down that is taken back so soon was a mistake */
    FLOOR_S = 600,
    BEST_WINDOWS = 40,
};

#define MAX_NEED         1e6
#define ENOUGH_MESSAGES  50.0
#define ENOUGH_SAMPLES   8.0
#define UNDER_WAY_S      1.5 /* arrivals of so long are no backlog */
#define SIGMAS           4   /* more than that is not chance */
#define CONFIRMED        3.4
#define SURE_SIGMAS      8    /* and this needs no second sample */
#define GROWTH_HELPS     0.25 /* of what it should bring, or it did not help */
#define SUSPICIOUS       0.5
#define ROUNDING         0.05 /* of an instance that would have little to do */
#define SMALL_STEP       0.7  /* down to so much of the count, or less, is worth no long look */
#define LONG_MARGIN      1.03
#define SAME_LOAD        0.1
#define TRUST_HIGH       1.5 /* reports may say so much more than is seen to be settled */
#define TRUST_LOW        0.4
#define ENOUGH_SETTLED   30.0 /* messages, to judge reports by */
#define ENOUGH_HELD      2    /* instances that hold a message */
#define NONE_HELD        0.15 /* of the samples: exp(-ENOUGH_HELD) */
#define LESS_THAN_CHANCE 0.25 /* of the mean: a variance that Poisson's law does not have */
#define MORE_THAN_CHANCE 2

static bool known(double v)
{
    return isfinite(v) && v >= 0;
}

static int64_t clamp(int64_t n, int64_t min, int64_t max)
{
    return n < min ? min : n > max ? max : n;
}

/* The weight of a sample that covers dt in an exponential mean over tau. */
static double weight(double dt, double tau)
{
    return 1 - exp(-dt / tau);
}

/* ---- arrivals ---- */

/* Smoothed while what comes in differs by chance only, whose size is learnt (bursts), and is at least that of Poisson arrivals. A
 * rise counts at once when there is no doubt, and so does the next sample: the first one covers the time before the rise, too. It
 * also counts when a second sample, or a long one, confirms it. */
static void learn_arrivals(const struct scale_settings *s, struct scale_memory *m, double lambda, double dt)
{
    if (!m->begun) {
        m->lambda = m->sample = lambda;
        m->arrival_samples = 1;
        m->variance = lambda / (dt > 0 ? dt : 1);
        return;
    }
    double sd = sqrt(fmax(m->variance, fmax(m->lambda, 1) / dt)), off = lambda - m->lambda;
    double confirmed = dt >= 2 ? lambda : fmin(lambda, m->sample), dropped = dt >= 2 ? lambda : fmax(lambda, m->sample);
    double w = weight(dt, s->window_s);
    m->arrival_samples += m->arrival_samples < 1000;
    bool rose = off > SURE_SIGMAS * sd;
    if (rose || (m->rose && off > 0))
        m->lambda = lambda;
    else if (confirmed - m->lambda > (dt >= 2 ? SIGMAS : CONFIRMED) * sd)
        m->lambda = confirmed;
    else if (m->lambda - dropped > (dt >= 2 ? SIGMAS : CONFIRMED) * sd)
        m->lambda = dropped;
    else
        m->lambda += fmax(w, 1.0 / m->arrival_samples) * off;
    double change = fmin(fabs(lambda - m->sample), SURE_SIGMAS * sd); /* from one to the next: another level is no chance */
    m->variance += weight(dt, s->window_s * 4) * (change * change / 2 - m->variance);
    m->sample = lambda;
    m->rose = rose;
}

/* What is behind, beyond what is under way anyhow where so much comes in. */
static double waiting(const struct scale_settings *s, double lambda, const struct scale_input *in)
{
    double under_way = lambda * fmin(UNDER_WAY_S, s->drain_target_s / 2);
    return fmax(0, in->ready + in->leased - under_way - SIGMAS * sqrt(fmax(under_way, 1)) - (double)in->instances);
}

/* ---- what instances settle ---- */

/* Messages a busy second of an instance; 0: nobody knows. */
static double mu_of(const struct scale_memory *m)
{
    return m->busy > 0 && m->acks > 0 ? m->acks / m->busy * m->trust : 0;
}

/* After few messages mu may be chance. To add instances a little later costs less than to take some back. */
static double hope(const struct scale_memory *m)
{
    return 1 + fmax(0, 0.75 / sqrt(fmax(m->acks_seen, 1)) - 0.1);
}

/* What one of them settles at least, whatever the rest of its time is: a bound that needs no luck in when it is looked at. */
static double least_seen(const struct scale_memory *m)
{
    return m->there > 0 ? m->settled / m->there : 0;
}

/* What one settles while it holds a message, where they are looked at by chance: then how many hold one differs from one time to
 * the next as Poisson's law has it. Figures that are taken in step with the work (right after it, say, when hardly one holds any)
 * differ less, or far more, and would make instances fast without end: with them it is only the least that is known. */
static double seen_of(const struct scale_memory *m)
{
    return m->by_chance_s >= BY_CHANCE_S ? fmax(m->settled / m->holding, least_seen(m)) : least_seen(m);
}

/* How many hold a message, and whether that is what chance would have. */
static void see_holding(struct scale_memory *m, double held, double w, double dt)
{
    double change = held - m->held;
    m->holding += w * (held - m->holding);
    m->holding_variance += w * (change * change / 2 - m->holding_variance); /* from one to the next: a trend is no chance */
    m->none_held += w * ((held < 1) - m->none_held);
    bool by_chance = m->holding >= ENOUGH_HELD && m->none_held < NONE_HELD && m->holding_variance > m->holding * LESS_THAN_CHANCE &&
                     m->holding_variance < m->holding * MORE_THAN_CHANCE;
    m->by_chance_s = by_chance || m->by_chance_s < 0 ? m->by_chance_s + dt : 0;
}

/* What as many as now settle while all of them are busy. */
static void see_plateau(struct scale_memory *m, const struct scale_input *in, bool full, double settled, double dt)
{
    if (!full || in->instances != m->plateau_n) {
        m->plateau_n = full ? in->instances : 0;
        m->plateau = m->plateau_s = 0;
        m->plateau_samples = 0; /* this one covers the time before, too */
        return;
    }
    m->plateau += settled * dt;
    m->plateau_s += dt;
    m->plateau_samples++;
}

static double plateau_of(const struct scale_memory *m)
{
    return m->plateau_samples >= PLATEAU_SAMPLES && m->plateau_s >= PLATEAU_S ? m->plateau / m->plateau_s : NAN;
}

/* What one settles while all are busy, however many there are. busy: all hold a message, and more wait; full: and did so all the
 * time since the last sample, in which fewer came in than wait. */
static void see_full(struct scale_memory *m, const struct scale_input *in, bool busy, bool full, double settled, double dt)
{
    if (!busy)
        m->full_s = m->full_acks = m->full_busy = 0;
    if (full && m->full && m->count == (double)in->instances) { /* the others cover another time, too */
        m->full_s += dt;
        m->full_acks += settled * dt;
        m->full_busy += m->count * dt;
    }
}

/* What one settles when it is never without a message; NaN: that was not seen for long enough. */
static double full_speed(const struct scale_memory *m)
{
    return m->full_s >= FULL_S && m->full_acks >= ENOUGH_SETTLED ? m->full_acks / m->full_busy : NAN;
}

/* What they say of themselves is held against what is seen: they settle no more than that while all are busy, and no less ever.
 * behind: more waits than should, and none is idle. */
static void hold_against(struct scale_memory *m, bool behind, double dt)
{
    double said = mu_of(m), full = full_speed(m), seen = seen_of(m);
    if (said <= 0 || m->seen_s < fmax(SEEN_S, ENOUGH_SAMPLES * dt))
        return;
    if (behind && m->trust > 1 && said > least_seen(m)) { /* they were held to be faster than they say, and are not */
        m->trust = fmax(1, m->trust * least_seen(m) / said);
        m->by_chance_s = -FLOOR_S;
    } else if (said > full * TRUST_HIGH)
        m->trust *= full / said;
    else if (m->trust < 1 && said < full) /* it was held too low */
        m->trust = fmin(1, m->trust * full / said);
    else if (said < seen * TRUST_LOW)
        m->trust *= seen / said;
}

/* Few messages are smoothed for longer. */
static double memory_of(const struct scale_settings *s, const struct scale_memory *m, double dt)
{
    return fmax(fmin(fmax(ENOUGH_MESSAGES / fmax(m->settled, 0.01), s->window_s), s->window_s * 4), ENOUGH_SAMPLES * dt);
}

/* Before the decision: what they say. */
static void learn_reported(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *in, double dt)
{
    double w = weight(dt, memory_of(s, m, dt)), busy = fmax(fmin(in->leased, (double)in->instances), 0.25);
    if (!m->begun)
        m->trust = 1;
    if (known(in->acks_per_busy_s) && in->acks_per_busy_s > 0) {
        m->acks_seen += in->acks_per_busy_s * busy * (m->begun ? dt : 1);
        w = fmax(w, 1.0 / ++m->samples); /* the first ones count alike */
        m->samples -= m->samples == 1000;
        m->acks += w * (in->acks_per_busy_s * busy - m->acks);
        m->busy += w * (busy - m->busy);
        m->reports = true;
    } else if (!m->reports && full_speed(m) > 0) { /* apps that do not report */
        m->acks = m->full_acks;
        m->busy = m->full_busy;
    }
}

/* After it: what is seen of them, which counts the next time. So more that comes in, or waits, never makes for fewer now. */
static void learn_seen(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *in, double backlog,
                       double dt)
{
    double n = (double)in->instances, w = weight(dt, memory_of(s, m, dt)), held = fmin(in->leased, n);
    bool busy = n > 0 && in->ready >= n && in->leased >= n * 0.9, full = busy && in->ready >= in->ingress_per_s * dt;
    if (m->begun) {
        double settled = fmax(0, in->ingress_per_s - (backlog - m->backlog) / dt);
        m->settled += w * (settled - m->settled); /* both from nothing: their ratio is right from the beginning */
        see_holding(m, held, w, dt);
        m->there += w * (fmax(n, m->count) - m->there);
        m->seen_s += dt;
        see_plateau(m, in, full, settled, dt);
        see_full(m, in, busy, full, settled, dt);
    }
    m->held = held;
    m->count = n;
    m->full = full;
    if (m->reports)
        hold_against(m, in->leased >= n * 0.9 && waiting(s, m->lambda, in) > 0, dt);
    if (!full)
        m->mu_best *= 1 - weight(dt, s->window_s * BEST_WINDOWS);
    if (m->seen_s >= SEEN_S / 2) /* what was seen, not what they say; who holds more than one is at works for less */
        m->mu_best = fmax(m->mu_best, seen_of(m));
}

/* ---- the window ---- */

static void remember(const struct scale_settings *s, struct scale_memory *m, double now_s, double need, double dt)
{
    unsigned last = (m->head + SCALE_SLICES - 1) % SCALE_SLICES;
    double w = weight(dt, s->window_s * LONG_WINDOWS / 2);
    m->need_long += m->begun ? w * (need - m->need_long) : need - m->need_long;
    if (m->begun && now_s - m->needs[last].at_s < s->window_s / (SCALE_SLICES / 2)) {
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

/* ---- growth that does not help ---- */

/* What a growth by the rule on averages is to better, or any other; NaN: not known well enough to judge by. */
static double performance(const struct scale_memory *m, const struct scale_input *in)
{
    return m->grown_for_average ? (in->average_s > 0 ? 1 / in->average_s : NAN) : plateau_of(m);
}

static void note_growth(struct scale_memory *m, const struct scale_input *in, int64_t desired, bool for_average, bool trial)
{
    if (desired <= in->instances || in->instances < 1 || in->now_s < m->no_judgement_until_s ||
        (m->grown_from && desired <= m->grown_to))
        return;
    if (!m->grown_from) {
        m->grown_for_average = for_average;
        m->trial = trial;
        m->before = performance(m, in);
        if (isnan(m->before))
            return;
        m->grown_from = in->instances;
    }
    m->grown_to = desired;
    m->grown_at_s = in->now_s;
}

static void set_ceiling(struct scale_memory *m, const struct scale_input *in, double after)
{
    int64_t enough = m->grown_for_average || m->mu_best <= 0 ? m->grown_from : (int64_t)ceil(after * 1.1 / m->mu_best);
    m->ceiling = clamp(enough, 1, m->grown_from);
    m->ceiling_settled = m->grown_for_average ? 0 : after;
    m->ceiling_until_s = in->now_s + CEILING_S * (double)(1 << m->ceilings);
    m->ceilings += m->ceilings < MAX_CEILINGS;
}

/* Messages take as long with more instances: that says nothing of how many the load needs. */
static void end_trial(struct scale_memory *m, double now_s)
{
    m->no_trial_until_s = now_s + TRIAL_S * (double)(1 << m->trials);
    m->trials += m->trials < MAX_CEILINGS;
    m->take_back = m->grown_from;
}

/* What the last growth brought, once its instances are there. */
static void judge_growth(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *in)
{
    bool reached = in->instances >= m->grown_to || (in->now_s - m->grown_at_s > START_PATIENCE_S && in->instances > m->grown_from);
    if (!m->grown_from)
        return;
    if (in->instances < m->grown_from || in->now_s - m->grown_at_s > 2 * START_PATIENCE_S ||
        (!m->grown_for_average && !m->plateau_n)) { /* they do not come, or it helped */
        m->grown_from = 0;
        return;
    }
    double after = performance(m, in), hoped = (double)in->instances / (double)m->grown_from - 1;
    if (!reached || isnan(after) || in->now_s - m->grown_at_s < (m->trial ? s->window_s : REACHED_S))
        return;
    bool helped = after >= m->before * (1 + GROWTH_HELPS * hoped);
    if (m->trial && !helped)
        end_trial(m, in->now_s);
    else if (m->trial)
        m->trials = 0;
    else if (!helped)
        set_ceiling(m, in, after);
    else
        m->ceilings = 0;
    m->grown_from = 0;
}

/* All are busy for long, each settles far less than one can, and still it is not enough: are there too many? */
static void suspect(struct scale_memory *m, const struct scale_input *in, double need)
{
    double settled = plateau_of(m), n = (double)in->instances;
    if (m->ceiling || m->plateau_s < SUSPECT_S || isnan(settled) || need <= n || in->now_s < m->no_judgement_until_s ||
        m->mu_best <= 0 || settled > n * m->mu_best * SUSPICIOUS || in->instances < 4)
        return;
    m->grown_from = in->instances;
    m->grown_for_average = false;
    set_ceiling(m, in, settled);
    m->grown_from = 0;
}

static void judge_ceiling(struct scale_memory *m, const struct scale_input *in, double waits)
{
    double now = in->now_s, settled = plateau_of(m);
    if (!m->ceiling && m->ceilings && now - m->ceiling_until_s > FLOOR_S)
        m->ceilings = 0; /* long ago */
    if (!m->ceiling)
        return;
    if (now >= m->ceiling_until_s || (m->ceiling_settled > 0 && m->lambda < m->ceiling_settled * 0.7 && waits <= 0)) {
        m->ceiling = 0;
    } else if (m->ceiling_settled > 0 && in->instances <= m->ceiling && settled < m->ceiling_settled * 0.85) {
        m->ceiling = 0; /* it was none: fewer settle less */
        m->ceilings = 0;
        m->no_judgement_until_s = now + NO_JUDGEMENT_S;
    }
}

/* ---- the decision ---- */

static bool is_slow(const struct scale_settings *s, const struct scale_input *in)
{
    return known(s->max_average_s) && known(in->average_s) && in->average_s > s->max_average_s;
}

/* More instances make a message faster only where they were in one another's way, so a few more are tried, and what that brings is
 * looked at before there are any more. 0: none. */
static double need_for_average(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in)
{
    double n = (double)in->instances;
    if (!is_slow(s, in) || in->now_s < m->no_trial_until_s || in->now_s < m->no_judgement_until_s || m->grown_from || n < 1)
        return 0;
    return n + fmin(fmax(floor(n / 4), 1), fmax(n * (in->average_s / fmax(s->max_average_s, 1e-9) - 1), ROUNDING * 2));
}

/* Why there should be more than arrivals and backlog ask for; 0: they need not. */
static double need_for_rate(const struct scale_settings *s, const struct scale_input *in, double waits)
{
    double n = (double)in->instances;
    if (known(s->min_processing_per_s) && known(in->processing_per_s) && waits > 0 &&
        in->processing_per_s < s->min_processing_per_s)
        return n * fmin(s->min_processing_per_s / fmax(in->processing_per_s, 1e-9), 2);
    return 0;
}

/* The tolerance grows with what chance does to the need. variance: before this sample was learnt. */
static double tolerance(const struct scale_settings *s, const struct scale_memory *m, double variance, double dt)
{
    double w = fmax(weight(dt > 0 ? dt : 1, s->window_s), 1.0 / fmax(m->arrival_samples, 1));
    if (m->lambda <= 0)
        return s->tolerance;
    double chance = fmax(variance, m->lambda) * w / (2 - w) / (m->lambda * m->lambda);
    return fmax(s->tolerance, fmin(3 * sqrt(chance + 1 / fmax(m->acks_seen, 1)), 1));
}

/* Are those that were ordered last still starting? What piles up then is what they were ordered for. */
static bool is_starting(const struct scale_memory *m, const struct scale_input *in, int64_t current)
{
    return in->instances < current && in->now_s - m->up_at_s < START_S;
}

static int64_t down(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *in, int64_t current,
                    double need)
{
    int64_t most = (int64_t)ceil(largest(s, m, in->now_s, need) - 1e-9);
    if (most >= current || in->now_s - m->down_at_s < DOWN_EVERY_S)
        return current;
    if ((double)most > SMALL_STEP * (double)current) {
        int64_t later = (int64_t)ceil(m->need_long * LONG_MARGIN - 1e-9);
        most = later > most ? later : most;
    }
    if (m->floor && in->now_s < m->floor_until_s && m->lambda > m->floor_lambda * (1 - SAME_LOAD) && most < m->floor)
        most = m->floor;
    bool idle = in->now_s - m->active_at_s >= s->window_s * LONG_WINDOWS; /* an instance is not started for each message */
    int64_t half = current > 1 ? (current + 1) / 2 : idle ? 0 : 1;
    return most >= current ? current : most > half ? most : half;
}

/* What is tried stays until it is judged, and goes at once when it did not help. */
static int64_t after_trial(struct scale_memory *m, int64_t current, double need, int64_t desired)
{
    int64_t back = m->take_back, half = (current + 1) / 2;
    m->take_back = 0;
    if (m->grown_from && m->trial)
        return current;
    if (!back || back >= desired || need > (double)back)
        return desired;
    return back > half ? back : half;
}

static void note_step(struct scale_memory *m, double now_s, int64_t current, int64_t desired)
{
    if (desired < current) {
        m->down_at_s = now_s;
        m->down_lambda = m->lambda;
        m->down_from = current;
        return;
    }
    if (desired == current)
        return;
    m->up_at_s = now_s;
    if (m->down_from && now_s - m->down_at_s < REGRET_S && fabs(m->lambda - m->down_lambda) <= SAME_LOAD * m->down_lambda) {
        m->floor = desired < m->down_from ? desired : m->down_from;
        m->floor_lambda = m->lambda;
        m->floor_until_s = now_s + FLOOR_S;
    }
}

static struct scale_decision hold(int64_t current, int64_t min, int64_t max, const char *why)
{
    return (struct scale_decision){clamp(current, min, max), why};
}

static bool is_fresh(const struct scale_settings *s, const struct scale_input *in)
{
    return isfinite(in->now_s) && known(in->report_age_s) && in->report_age_s <= s->max_report_age_s && known(in->ingress_per_s) &&
           known(in->ready) && known(in->leased) && in->instances >= 0;
}

/* steady: for what comes in alone. */
static double need_of(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in, double waits,
                      double *ret_steady)
{
    double mu = mu_of(m) * hope(m);
    *ret_steady = 0;
    if (in->ingress_per_s <= 0 && in->ready + in->leased <= 0)
        return 0;
    if (mu <= 0) /* how fast an instance is will be known when there is one */
        return in->instances > 0 ? (double)in->instances : 1;
    *ret_steady = m->lambda / s->utilisation / mu;
    return fmin(fmax(*ret_steady + waits / s->drain_target_s / mu, 1e-6), MAX_NEED);
}

static int64_t grown(double need, int64_t current)
{
    int64_t n = (int64_t)ceil(need - ROUNDING);
    return n > current ? n : current > 0 ? current : 1;
}

/* What forbids more, or makes it careful. */
static int64_t limit(const struct scale_memory *m, int64_t current, int64_t desired, const char **reason)
{
    int64_t careful = current + current / 4 + 1;
    if (m->ceiling && desired > m->ceiling) {
        *reason = "more of them did not settle more: something else is the bottleneck";
        return m->ceiling > (current + 1) / 2 ? m->ceiling : (current + 1) / 2;
    }
    if (m->ceilings && m->grown_from && desired > current)
        return current > m->grown_to   ? current
               : desired < m->grown_to ? desired
                                       : m->grown_to;            /* what the last step brings comes first */
    return m->ceilings && desired > careful ? careful : desired; /* after it did not help */
}

struct scale_decision scale_decide(const struct scale_settings *s, struct scale_memory *m, const struct scale_input *in)
{
    int64_t min = in->min > 0 ? in->min : 0, max = in->max > min ? in->max : min;
    int64_t current = clamp(m->begun || m->adopted ? m->desired : in->instances, 0, (int64_t)MAX_NEED), desired;
    double measured = in->now_s - in->report_age_s, dt = m->begun ? measured - m->measured_s : 0;
    double variance = m->variance, lambda = m->lambda, steady; /* as they were: with more that comes in, less would seem to wait */
    const char *reason = "as many as are needed";
    if (!is_fresh(s, in))
        return hold(current, min, max, "no fresh figures: the count holds");
    if (m->begun && dt < -s->window_s) { /* another clock */
        *m = (struct scale_memory){.desired = m->desired, .adopted = true};
        dt = 0;
    } else if (m->begun && dt < 1e-3) {
        return hold(current, min, max, "nothing new: the count holds");
    }
    learn_arrivals(s, m, in->ingress_per_s, dt);
    learn_reported(s, m, in, dt);
    double waits = waiting(s, m->lambda, in), need = need_of(s, m, in, waits, &steady), by_rule = need_for_rate(s, in, waits),
           by_average = need_for_average(s, m, in);
    bool is_rule = by_rule > 0 && by_rule >= need;
    need = fmax(need, by_rule);
    bool is_trial = by_average > fmax(need, (double)current);
    if (need > 0)
        m->active_at_s = in->now_s;
    remember(s, m, in->now_s, m->begun ? need : fmax(need, (double)current), dt); /* what there is stays for a window */
    double beyond = is_starting(m, in, current) ? s->tolerance : 0;
    if ((need > 0 && !current) || steady > (double)current * (1 + tolerance(s, m, variance, dt)) ||
        (need > (double)current * (1 + beyond) && waiting(s, lambda, in) > 0) || by_rule > (double)current || is_trial) {
        desired = grown(is_trial ? by_average : need, current);
        reason = is_trial    ? "a message takes longer than max_average_ingestion_ms"
                 : is_rule   ? "fewer messages are processed than min_processing_rate"
                 : !current  ? "messages came"
                 : waits > 0 ? "a backlog has piled up"
                             : "more comes in than they can take";
    } else {
        desired = after_trial(m, current, need, down(s, m, in, current, need));
        if (desired < current)
            reason = desired ? "fewer are enough, and were for a while" : "nothing came for a while";
    }
    if (is_slow(s, in) && in->now_s < m->no_trial_until_s && desired <= current)
        reason = "more of them did not make a message faster, which takes longer than max_average_ingestion_ms";
    desired = limit(m, current, desired, &reason);
    if (clamp(desired, min, max) != desired)
        reason = desired > max ? "max_instances" : "min_instances";
    desired = clamp(desired, min, max);
    learn_seen(s, m, in, in->ready + in->leased, dt);
    judge_growth(s, m, in);
    judge_ceiling(m, in, waits);
    suspect(m, in, need);
    note_growth(m, in, desired, is_rule || is_trial, is_trial);
    note_step(m, in->now_s, current, desired);
    m->backlog = in->ready + in->leased;
    m->measured_s = measured;
    m->begun = true;
    m->desired = desired;
    return (struct scale_decision){desired, reason};
}

void scale_adopt(const struct scale_settings *s, struct scale_memory *m, double now_s, int64_t desired)
{
    if (m->begun && desired > m->desired)
        remember(s, m, now_s, (double)desired, 0);
    m->desired = desired;
    m->adopted = true;
}
