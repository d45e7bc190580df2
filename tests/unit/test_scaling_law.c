/* Properties of the scaling decision, over random histories; scalesim judges how good it is. */
#include "check.h"
#include "programs/monitor/scaling_law.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HISTORIES = 400, STEPS = 120 };

static double chance(void)
{
    return (double)random() / RAND_MAX;
}

/* Something that an app might have: an input that follows the last one. */
static struct scale_input next(const struct scale_input *last, double mu, int64_t desired)
{
    struct scale_input in = *last;
    double dt = 0.5 + chance(), capacity = mu * (double)last->instances;
    in.now_s += dt;
    in.ingress_per_s = fmax(0, last->ingress_per_s * (0.9 + 0.2 * chance()));
    if (chance() < 0.05)
        in.ingress_per_s = 300 * chance() * chance();
    double backlog = fmax(0, last->ready + (in.ingress_per_s - capacity) * dt);
    in.ready = floor(backlog);
    in.leased = fmin((double)last->instances, in.ingress_per_s / mu + (backlog > 0 ? 100 : 0));
    in.instances = chance() < 0.5 ? desired : last->instances;
    in.acks_per_busy_s = chance() < 0.9 ? mu * (0.7 + 0.6 * chance()) : NAN;
    in.average_s = 1 / mu;
    in.processing_per_s = fmin(capacity, in.ingress_per_s);
    in.report_age_s = chance() < 0.95 ? 0.1 : 100;
    return in;
}

static void over_histories(void (*fn)(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in))
{
    srandom(7);
    for (int h = 0; h < HISTORIES; h++) {
        struct scale_settings s = scale_defaults;
        struct scale_memory m = {0};
        double mu = exp(chance() * 7 - 1);
        struct scale_input in = {
            .now_s = 1000 * chance(), .ingress_per_s = 50 * chance(), .instances = random() % 4, .max = 1 + random() % 40};
        in.min = random() % 3 ? 0 : random() % (in.max + 1);
        s.utilisation = 0.5 + 0.5 * chance();
        s.drain_target_s = 1 + 20 * chance();
        s.window_s = 5 + 30 * chance();
        for (int i = 0; i < STEPS; i++) {
            in = next(&in, mu, m.desired);
            fn(&s, &m, &in);
            scale_decide(&s, &m, &in);
        }
    }
}

static int64_t what_if(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in)
{
    struct scale_memory copy = *m;
    return scale_decide(s, &copy, in).desired;
}

static void check_monotone(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in)
{
    struct scale_input a = *in, b = *in;
    b.ingress_per_s += 40 * chance() * chance();
    if (what_if(s, m, &a) > what_if(s, m, &b))
        fail_msg("more comes in (%g -> %g a second), and fewer are wanted (%ld -> %ld)", a.ingress_per_s, b.ingress_per_s,
                 (long)what_if(s, m, &a), (long)what_if(s, m, &b));
    b = *in;
    b.ready += floor(1000 * chance() * chance());
    if (what_if(s, m, &a) > what_if(s, m, &b))
        fail_msg("more waits (%g -> %g), and fewer are wanted (%ld -> %ld)", a.ready, b.ready, (long)what_if(s, m, &a),
                 (long)what_if(s, m, &b));
}

static void test_monotone(void **state)
{
    (void)state;
    over_histories(check_monotone);
}

static void check_bounds(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in)
{
    int64_t n = what_if(s, m, in), before = m->begun ? m->desired : in->instances;
    before = before < in->min ? in->min : before > in->max ? in->max : before;
    assert_in_range(n, in->min, in->max);
    assert_true(n >= before / 2);
}

static void test_within_the_agreement_and_down_by_half_at_most(void **state)
{
    (void)state;
    over_histories(check_bounds);
}

static void check_idempotent(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in)
{
    struct scale_memory copy = *m;
    int64_t n = scale_decide(s, &copy, in).desired;
    for (int i = 0; i < 3; i++)
        assert_int_equal(scale_decide(s, &copy, in).desired, n);
}

static void test_said_twice_it_changes_nothing(void **state)
{
    (void)state;
    over_histories(check_idempotent);
}

static void check_holds(const struct scale_settings *s, const struct scale_memory *m, const struct scale_input *in)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY, -1};
    if (!m->begun)
        return;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct scale_input v[] = {*in, *in, *in, *in, *in};
        struct scale_memory copy = *m;
        v[0].ingress_per_s = v[1].ready = v[2].leased = v[3].report_age_s = bad[i];
        v[4].report_age_s = s->max_report_age_s + 1;
        for (size_t k = 0; k < 5; k++) {
            struct scale_decision d = scale_decide(s, &copy, &v[k]);
            assert_int_equal(d.desired, m->desired < in->min ? in->min : m->desired > in->max ? in->max : m->desired);
            assert_non_null(strstr(d.reason, "no fresh figures"));
        }
        assert_memory_equal(&copy, m, sizeof copy);
    }
}

static void test_holds_without_figures(void **state)
{
    (void)state;
    over_histories(check_holds);
}

static void test_garbage_is_survived(void **state)
{
    static const double odd[] = {0, -0.0, 1e-300, 1e300, -1e300, NAN, INFINITY, -INFINITY, 1, 3, 1e9};
    static const int64_t counts[] = {0, 1, -1, INT64_MAX, INT64_MIN, 5, 100};
    struct scale_memory m = {0};
    (void)state;
    srandom(3);
#define ODD   odd[(size_t)random() % (sizeof odd / sizeof *odd)]
#define COUNT counts[(size_t)random() % (sizeof counts / sizeof *counts)]
    for (int i = 0; i < 200000; i++) {
        struct scale_input in = {.now_s = chance() < 0.7 ? i : ODD,
                                 .ingress_per_s = ODD,
                                 .ready = ODD,
                                 .leased = ODD,
                                 .acks_per_busy_s = ODD,
                                 .average_s = ODD,
                                 .processing_per_s = ODD,
                                 .instances = COUNT,
                                 .min = COUNT,
                                 .max = COUNT,
                                 .report_age_s = chance() < 0.7 ? 0.5 : ODD};
        struct scale_settings s = scale_defaults;
        s.max_average_s = ODD;
        s.min_processing_per_s = ODD;
        int64_t n = scale_decide(&s, &m, &in).desired, least = in.min > 0 ? in.min : 0;
        assert_true(n >= least && n <= (in.max > least ? in.max : least));
        if (i % 50 == 0)
            memset(&m, 0, sizeof m);
    }
}

/* ---- what it is for ---- */

struct app {
    struct scale_settings s;
    struct scale_memory m;
    double t, backlog, mu;
    int64_t n;
    struct scale_decision d;
};

/* A second at this rate; new instances are there at once. */
static void second(struct app *a, double rate)
{
    double settled = fmin(a->backlog + rate, a->mu * (double)a->n);
    a->t++;
    a->backlog += rate - settled;
    a->d = scale_decide(&a->s, &a->m,
                        &(struct scale_input){a->t, rate, a->backlog, fmin((double)a->n, a->backlog + rate / a->mu),
                                              a->n ? a->mu : NAN, 1 / a->mu, settled, a->n, 0, 20, 0});
    a->n = a->d.desired;
}

static void test_a_step_is_followed_at_once_and_back(void **state)
{
    struct app a = {.s = scale_defaults, .mu = 10};
    (void)state;
    second(&a, 0);
    assert_int_equal(a.n, 0);
    second(&a, 15);
    assert_int_equal(a.n, 1); /* how fast it is nobody knows yet */
    for (int i = 0; i < 60; i++)
        second(&a, 15);
    assert_int_equal(a.n, 2);
    second(&a, 120);
    second(&a, 120);
    assert_in_range(a.n, 13, 15);
    for (int i = 0; i < 120; i++) {
        int64_t before = a.n;
        second(&a, 120);
        assert_true(a.n <= before); /* nothing swings */
    }
    assert_int_equal(a.n, 13);
    for (int i = 0; i < 60; i++)
        second(&a, 15);
    assert_int_equal(a.n, 2);
    for (int i = 0; i < 70; i++)
        second(&a, 0);
    assert_int_equal(a.n, 0);
    assert_string_equal(a.d.reason, "as many as are needed");
}

static void test_growth_that_does_not_help_is_taken_back(void **state)
{
    struct app a = {.s = scale_defaults, .mu = 10, .n = 4};
    int bottleneck = 0, few = 0;
    (void)state;
    for (int i = 0; i < 30; i++)
        second(&a, 30);
    for (int i = 0; i < 120; i++) {
        a.mu = a.n > 5 ? 50.0 / (double)a.n : 10; /* the database takes 50 a second, however many ask */
        second(&a, 100);
        few += a.n <= 8;
        bottleneck += strstr(a.d.reason, "something else is the bottleneck") != NULL;
    }
    assert_true(bottleneck > 20);
    assert_true(few > 80); /* but now and then it is tried again */
}

/* Heavier messages look like a bottleneck: all are busy, and each settles less. Fewer then settle less still, so it is none. */
static void test_heavier_messages_are_no_bottleneck_for_long(void **state)
{
    struct app a = {.s = scale_defaults, .mu = 10, .n = 4};
    int few = 0;
    (void)state;
    for (int i = 0; i < 60; i++)
        second(&a, 30);
    a.mu = 1.6; /* nineteen are needed, of the twenty that are allowed */
    for (int i = 0; i < 180; i++) {
        second(&a, 30);
        few += i >= 10 && a.n < 19;
    }
    assert_in_range(few, 1, 30); /* it is taken for a bottleneck once */
}

/* ---- whenever the figures are taken ---- */

enum sampling { AFTER_WORK, BEFORE_WORK, BY_CHANCE, N_SAMPLINGS };

struct plant {
    struct scale_settings s;
    struct scale_memory m;
    enum sampling sampling;
    double mu, lie, prefetch;        /* a second of an instance; what it says is lie times that; messages it is given at once */
    int64_t n, desired, starting[8]; /* ordered so many seconds ago */
    int start_s, t, reversals, ups, last;
    double backlog, late_s; /* late: what waits is more than comes in 5 s */
};

/* A second in which so much comes in and all work as they can; the figures are those of its end, of its beginning, or in between.
 */
static void run_plant(struct plant *p, int seconds, double rate)
{
    for (; seconds--; p->t++) {
        double n, before = p->backlog + rate, settled, ready, leased;
        p->n = p->starting[p->t % p->start_s];
        n = (double)p->n;
        settled = fmin(before, p->mu * n);
        p->backlog = before - settled;
        double there = p->sampling == BEFORE_WORK ? before : p->backlog;
        leased = fmin(there, n * p->prefetch);
        ready = there - leased;
        if (p->sampling == BY_CHANCE && p->backlog <= 0) {
            leased = 0;
            for (int64_t i = 0; i < p->n; i++)
                leased += chance() < settled / (p->mu * n);
        }
        struct scale_decision d = scale_decide(&p->s, &p->m,
                                               &(struct scale_input){.now_s = p->t,
                                                                     .ingress_per_s = rate,
                                                                     .ready = ready,
                                                                     .leased = leased,
                                                                     .acks_per_busy_s = p->mu * p->lie,
                                                                     .average_s = 1 / p->mu,
                                                                     .processing_per_s = settled,
                                                                     .instances = p->n,
                                                                     .min = 1,
                                                                     .max = 200,
                                                                     .report_age_s = 0.5});
        int turn = d.desired > p->desired ? 1 : d.desired < p->desired ? -1 : 0;
        p->reversals += turn && p->last && turn != p->last;
        p->ups += turn > 0;
        p->last = turn ? turn : p->last;
        p->late_s += p->backlog > 5 * rate;
        p->starting[p->t % p->start_s] = p->desired = d.desired;
    }
}

static void begin_plant(struct plant *p)
{
    p->s = scale_defaults;
    p->lie = p->lie > 0 ? p->lie : 1;
    p->prefetch = p->prefetch > 0 ? p->prefetch : 1;
    p->desired = 1;
    for (int i = 0; i < 8; i++)
        p->starting[i] = 1;
}

/* As many as the load needs, and no more than the tolerance and the rest of one above what utilisation makes of it. */
static void assert_fits(const struct plant *p, double rate)
{
    double least = fmax(ceil(rate / p->mu - 1e-9), 1), most = fmax(ceil(rate / p->mu / p->s.utilisation), 1) * 1.15 + 1;
    if ((double)p->desired < least || (double)p->desired > most)
        fail_msg("%g/s, %g each, start %d s, sampling %d, %g at once: %lld instances", rate, p->mu, p->start_s, (int)p->sampling,
                 p->prefetch, (long long)p->desired);
}

static void test_steps_whenever_the_figures_are_taken(void **state)
{
    static const double loads[][2] = {{9, 90}, {5.2, 52}, {20, 200}, {45, 45}, {100, 10}}, mus[] = {2, 5, 10, 33};
    (void)state;
    srandom(3);
    for (size_t l = 0; l < 5; l++)
        for (size_t k = 0; k < 4; k++)
            for (int start_s = 1; start_s <= 5; start_s += 2)
                for (enum sampling how = 0; how < N_SAMPLINGS; how++)
                    for (int prefetch = 1; prefetch <= 10; prefetch += 9) {
                        struct plant p = {.sampling = how, .mu = mus[k], .start_s = start_s, .prefetch = prefetch};
                        begin_plant(&p);
                        run_plant(&p, 60, loads[l][0]);
                        assert_in_range(p.reversals, 0, 1); /* what piled up until the first were there */
                        run_plant(&p, 90, loads[l][1]);
                        assert_fits(&p, loads[l][1]);
                        p.reversals = 0;
                        run_plant(&p, 90, loads[l][1]);
                        assert_int_equal(p.reversals, 0);
                        assert_fits(&p, loads[l][1]);
                        run_plant(&p, 120, loads[l][0]);
                        assert_fits(&p, loads[l][0]);
                        assert_true(p.late_s <= 20 + 2 * start_s);
                    }
}

/* A step hardly ever falls between two samples: the first that has some of it covers the time before it, too. */
static void test_a_step_in_the_middle_of_a_sample_takes_no_more_orders(void **state)
{
    static const double loads[] = {5.2, 9, 15, 40};
    int steps = 0, ups = 0;
    (void)state;
    srandom(3);
    for (size_t l = 0; l < 4; l++)
        for (double part = 0.05; part <= 1; part += 0.05)
            for (int start_s = 1; start_s <= 3; start_s++) {
                struct plant p = {.sampling = BY_CHANCE, .mu = 10, .start_s = start_s};
                begin_plant(&p);
                run_plant(&p, 60, loads[l]);
                p.ups = 0;
                run_plant(&p, 1, loads[l] * (1 + 9 * part));
                run_plant(&p, 60, loads[l] * 10);
                assert_in_range(p.ups, 1, 3);
                assert_fits(&p, loads[l] * 10);
                ups += p.ups;
                steps++;
            }
    assert_true(ups <= 2 * steps);
}

static void test_liars(void **state)
{
    static const double lies[] = {0.1, 0.3, 3, 10};
    (void)state;
    srandom(3);
    for (size_t k = 0; k < 4; k++) {
        struct plant p = {.sampling = BY_CHANCE, .mu = 10, .start_s = 2, .lie = lies[k]};
        begin_plant(&p);
        run_plant(&p, 300, 85);
        p.late_s = 0;
        run_plant(&p, 300, 85);
        assert_in_range(p.desired, 8, 30);
        assert_true(p.late_s < 10);
    }
}

/* Found too few once, a count is not gone below for a while: under that load. Under a smaller one it is. */
static void test_what_was_too_few_is_forgotten_with_the_load(void **state)
{
    struct plant p = {.sampling = AFTER_WORK, .mu = 1, .start_s = 3, .prefetch = 1};
    (void)state;
    begin_plant(&p);
    run_plant(&p, 60, 5);
    run_plant(&p, 40, 50);
    p.backlog += 150; /* a burst, as if the step down had caused it */
    run_plant(&p, 140, 50);
    assert_fits(&p, 50);
    run_plant(&p, 120, 5);
    assert_fits(&p, 5);
}

/* An average that no number of instances can have: one more is tried, once, and the load is followed as ever. */
static void test_growth_for_the_average_is_tried_once_and_small(void **state)
{
    static const struct {
        int64_t n, tried;
        double load;
    } cases[] = {{1, 2, 5}, {2, 3, 15}, {8, 10, 75}};
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct app a = {.s = scale_defaults, .mu = 10, .n = cases[k].n};
        for (int i = 0; i < 60; i++)
            second(&a, cases[k].load);
        assert_int_equal(a.n, cases[k].n);
        a.s.max_average_s = 0.001; /* each takes 0.1 s, whatever there is */
        int64_t most = 0, before = a.n;
        int grown = 0, seconds = 0;
        for (int i = 0; i < 300; i++) {
            second(&a, cases[k].load);
            most = a.n > most ? a.n : most;
            grown += a.n > before;
            seconds += a.n > cases[k].n;
            before = a.n;
            assert_true((i && i < 30) || strstr(a.d.reason, "max_average_ingestion_ms"));
        }
        assert_int_equal(most, cases[k].tried);
        assert_int_equal(grown, 1);
        assert_in_range(seconds, 5, 100); /* and taken back */
        for (int i = 0; i < 5; i++)
            second(&a, cases[k].load + 50);
        assert_true(a.n >= cases[k].n + 5); /* what comes in is no trial */
    }
}

/* Where it helps there are more of them, step by step. */
static void test_growth_for_the_average_that_helps_goes_on(void **state)
{
    struct app a = {.s = scale_defaults, .mu = 10, .n = 2};
    (void)state;
    a.s.max_average_s = 0.05;
    for (int i = 0; i < 120; i++) {
        a.mu = 5 * (double)a.n; /* they are in one another's way */
        second(&a, 5);
    }
    assert_in_range(a.n, 4, 5);
}

static void test_rules_on_time_and_rate(void **state)
{
    bool said;
    (void)state;
    struct app b = {.s = scale_defaults, .mu = 10, .n = 2};
    b.s.min_processing_per_s = 100;
    b.s.utilisation = 1;
    b.s.drain_target_s = 10000;
    said = false;
    for (int i = 0; i < 80; i++) {
        second(&b, 22); /* little more than two take */
        said |= strstr(b.d.reason, "min_processing_rate") != NULL;
    }
    assert_true(said);
}

/* The most that is wanted while 200 messages wait and 50 a second come in. */
static int64_t most_wanted(struct scale_settings s)
{
    struct app a = {.s = s, .mu = 10, .n = 6};
    int64_t most = 0;
    for (int i = 0; i < 60; i++)
        second(&a, 50);
    a.backlog = 200;
    for (int i = 0; i < 10; i++) {
        second(&a, 50);
        most = a.n > most ? a.n : most;
    }
    return most;
}

static void test_each_setting_bites(void **state)
{
    struct scale_settings s = scale_defaults;
    (void)state;
    int64_t usual = most_wanted(s);
    s.drain_target_s = 2;
    assert_true(most_wanted(s) > usual + 2);
    s = scale_defaults;
    s.utilisation = 0.5;
    assert_true(most_wanted(s) > usual + 2);
    struct app a = {.s = scale_defaults, .mu = 10, .n = 6}, b = a;
    b.s.window_s = 60;
    for (int i = 0; i < 100; i++) {
        second(&a, i < 60 ? 50 : 5);
        second(&b, i < 60 ? 50 : 5);
    }
    assert_int_equal(a.n, 1);
    assert_int_equal(b.n, 6);
}

static void test_what_somebody_else_asked_for_stays_a_while(void **state)
{
    struct scale_settings s = scale_defaults;
    struct scale_memory m = {0};
    struct scale_input in = {.now_s = 100, .acks_per_busy_s = NAN, .average_s = NAN, .processing_per_s = NAN, .max = 5};
    (void)state;
    scale_adopt(&s, &m, in.now_s, 3); /* before anything was decided */
    assert_int_equal(scale_decide(&s, &m, &in).desired, 3);
    for (int i = 0; i < 200; i++) {
        in.now_s++;
        in.instances = scale_decide(&s, &m, &in).desired;
    }
    assert_int_equal(in.instances, 0);
    scale_adopt(&s, &m, in.now_s, 2);
    in.now_s += 1;
    assert_int_equal(scale_decide(&s, &m, &in).desired, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monotone),
        cmocka_unit_test(test_within_the_agreement_and_down_by_half_at_most),
        cmocka_unit_test(test_said_twice_it_changes_nothing),
        cmocka_unit_test(test_holds_without_figures),
        cmocka_unit_test(test_garbage_is_survived),
        cmocka_unit_test(test_a_step_is_followed_at_once_and_back),
        cmocka_unit_test(test_growth_that_does_not_help_is_taken_back),
        cmocka_unit_test(test_heavier_messages_are_no_bottleneck_for_long),
        cmocka_unit_test(test_steps_whenever_the_figures_are_taken),
        cmocka_unit_test(test_a_step_in_the_middle_of_a_sample_takes_no_more_orders),
        cmocka_unit_test(test_liars),
        cmocka_unit_test(test_what_was_too_few_is_forgotten_with_the_load),
        cmocka_unit_test(test_growth_for_the_average_is_tried_once_and_small),
        cmocka_unit_test(test_growth_for_the_average_that_helps_goes_on),
        cmocka_unit_test(test_rules_on_time_and_rate),
        cmocka_unit_test(test_each_setting_bites),
        cmocka_unit_test(test_what_somebody_else_asked_for_stays_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
