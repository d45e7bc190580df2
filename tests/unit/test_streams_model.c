/* Streams against a model of a few lines, over restarts and kills. SIMBDP_SEED=N tries one seed. */
#include "streams_check.h"

enum { N_STREAMS = 3, N_SUBS = 2, MAX_SEQ = 60000, N_CONSUMERS = 3 };

enum fate { OPEN, MAYBE, ACKED_LATELY, ACKED, DIED_LATELY, DIED }; /* LATELY: not synced yet; MAYBE: it was lost, or not */

static struct {
    uint32_t *size;  /* by sequence: of the payload, which repeats the sequence */
    uint64_t *trace; /* by sequence: what its trace is made of; 0: it has none */
    uint64_t n, confirmed;
    struct {
        uint8_t *fate, *deliveries;
        bool *leased;
    } subs[N_SUBS];
} model[N_STREAMS];

static struct stream *streams[N_STREAMS];
static struct sub *subs[N_STREAMS][N_SUBS];
static struct consumer *consumers[N_STREAMS][N_SUBS][N_CONSUMERS];
static uint64_t number[N_STREAMS];

static void open_all(void)
{
    struct err e = {0};
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
    for (int i = 0; i < N_STREAMS; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%d/s", i);
        assert_int_equal(streams_add(q, name, &streams[i]), 0);
        for (int k = 0; k < N_SUBS; k++) {
            snprintf(name, sizeof name, "sub%d", k);
            assert_int_equal(stream_add_sub(streams[i], name, &subs[i][k]), 0);
            sub_configure(subs[i][k], LEASE_MS, MAX_DELIVERIES);
        }
    }
    memset(consumers, 0, sizeof consumers);
    streams_commit(q, true);
}

static void fill(char *p, size_t n, int stream, uint64_t seq)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(seq * 31 + (uint64_t)stream * 7 + i);
}

static void fill_trace(unsigned char *p, uint64_t of)
{
    for (int i = 0; i < MESSAGE_TRACE_BYTES; i++)
        p[i] = (unsigned char)(of * 13 + (uint64_t)i + 1);
}

/* All of a request have one trace, each has its own or none, or there is none. */
static uint64_t trace_of_message(uint32_t how, size_t k, uint64_t seq)
{
    return how == 0 ? seq - k : how == 1 && seq % 3 ? seq : 0;
}

static void check_trace(int i, uint64_t seq)
{
    const unsigned char *trace = stream_trace(streams[i], seq);
    unsigned char expected[MESSAGE_TRACE_BYTES];
    if (!model[i].trace[seq]) {
        assert_null(trace);
        return;
    }
    fill_trace(expected, model[i].trace[seq]);
    assert_non_null(trace);
    assert_memory_equal(trace, expected, sizeof expected);
}

static void publish(int i)
{
    enum { MOST = 40 };
    static char bytes[MOST][9000];
    static unsigned char traces[MOST][MESSAGE_TRACE_BYTES];
    uint32_t how = rnd(4);
    struct message v[MOST];
    size_t n = 1 + rnd(MOST), known;
    uint64_t first;
    if (model[i].n + n >= MAX_SEQ)
        return;
    for (size_t k = 0; k < n; k++) {
        uint64_t seq = model[i].n + k + 1, trace = model[i].trace[seq] = trace_of_message(how, k, seq);
        fill_trace(traces[k], trace);
        v[k] = (struct message){bytes[k], rnd(20) ? rnd(300) : rnd(9000), !trace ? NULL : how == 0 ? traces[0] : traces[k]};
        fill(bytes[k], v[k].n, i, seq);
        model[i].size[model[i].n + k + 1] = (uint32_t)v[k].n;
    }
    assert_int_equal(stream_publish(streams[i], 77, number[i] + 1, v, n, wall, &first, &known), 0);
    assert_int_equal(first, model[i].n + 1);
    assert_int_equal(known, 0);
    if (!rnd(4)) { /* sent again, as after a confirm that was lost */
        assert_int_equal(stream_publish(streams[i], 77, number[i] + 1, v, n, wall, &first, &known), 0);
        assert_int_equal(known, n);
        assert_int_equal(first, 0);
    }
    number[i] += n;
    model[i].n += n;
}

struct got {
    int stream, sub;
    uint64_t seqs[200];
    size_t n;
};

static void on_message(void *arg, uint64_t seq, int deliveries, int64_t at, const void *p, size_t n)
{
    struct got *g = arg;
    static char expected[9000];
    assert_true(seq >= 1 && seq <= model[g->stream].n);
    assert_int_equal(n, model[g->stream].size[seq]);
    fill(expected, n, g->stream, seq);
    assert_memory_equal(p, expected, n);
    assert_true(at > 0);
    check_trace(g->stream, seq);
    uint8_t *fate = &model[g->stream].subs[g->sub].fate[seq];
    assert_true(*fate == OPEN || *fate == MAYBE);
    *fate = OPEN;
    assert_false(model[g->stream].subs[g->sub].leased[seq]);
    assert_true(deliveries >= 1);
    model[g->stream].subs[g->sub].leased[seq] = true;
    model[g->stream].subs[g->sub].deliveries[seq] = (uint8_t)deliveries;
    g->seqs[g->n++] = seq;
}

static void died(int i, int k)
{
    struct dead_letter d;
    for (uint64_t seq = 1; sub_next_dead(subs[i][k], seq, &d); seq = d.seq + 1) {
        uint8_t *fate = &model[i].subs[k].fate[d.seq];
        assert_true(*fate <= MAYBE || *fate >= DIED_LATELY);
        assert_true(d.deliveries >= MAX_DELIVERIES || !strcmp(d.reason, "never"));
        if (*fate <= MAYBE)
            *fate = DIED_LATELY;
        model[i].subs[k].leased[d.seq] = false;
    }
}

static void consume(int i, int k, int c)
{
    struct got g = {i, k, {0}, 0};
    struct consumer **con = &consumers[i][k][c];
    if (!*con) {
        *con = sub_attach(subs[i][k], con);
        consumer_set_window(*con, 1 + rnd(200), 1 + rnd(100000));
    }
    consumer_lease(*con, 1 + rnd(100), 1 + rnd(200000), now, on_message, &g);
    for (size_t a = 0; a < g.n;) {
        size_t b = a;
        while (b + 1 < g.n && g.seqs[b + 1] == g.seqs[b] + 1 && rnd(20))
            b++;
        struct range r = {g.seqs[a], g.seqs[b]};
        uint32_t what = rnd(10);
        if (what < 7) {
            assert_int_equal(sub_ack(subs[i][k], &r, NULL, 1, now), r.last - r.first + 1);
            assert_int_equal(sub_ack(subs[i][k], &r, NULL, 1, now), 0);
            for (uint64_t seq = r.first; seq <= r.last; seq++)
                model[i].subs[k].fate[seq] = ACKED_LATELY;
        } else if (what < 8) {
            bool never = rnd(8) == 0;
            assert_int_equal(consumer_nack(*con, &r, 1, never ? -1 : (int64_t)rnd(2) * 500, never ? "never" : "no", now, wall),
                             r.last - r.first + 1);
        } else if (what < 9) {
            assert_int_equal(consumer_extend(*con, &r, 1, now), r.last - r.first + 1);
        }
        if (what < 8)
            for (uint64_t seq = r.first; seq <= r.last; seq++)
                model[i].subs[k].leased[seq] = false;
        a = b + 1;
    }
    died(i, k);
}

/* Who holds what is asked of the queues themselves: the model only says that nobody gets what another has. */
static void forget_leases(int i, int k)
{
    memset(model[i].subs[k].leased, 0, MAX_SEQ);
}

static void detach(int i, int k, int c)
{
    if (!consumers[i][k][c])
        return;
    for (int other = 0; other < N_CONSUMERS; other++) /* all, so that the model need not know whose lease it was */
        if (consumers[i][k][other]) {
            consumer_detach(consumers[i][k][other], rnd(2), wall);
            consumers[i][k][other] = NULL;
        }
    forget_leases(i, k);
    died(i, k);
}

static void pass_time(void)
{
    now += LEASE_MS + 600;
    for (int i = 0; i < N_STREAMS; i++)
        for (int k = 0; k < N_SUBS; k++) {
            int64_t due = sub_end_leases(subs[i][k], now, wall);
            assert_true(due == -1 || due > now);
            forget_leases(i, k);
            died(i, k);
        }
}

static void replay_or_drop(int i, int k)
{
    struct dead_letter d;
    uint64_t from = 1 + rnd((uint32_t)model[i].n + 1);
    if (!sub_next_dead(subs[i][k], from, &d))
        return;
    size_t n;
    int64_t at;
    const void *p = stream_read(streams[i], d.seq, &n, &at);
    assert_non_null(p);
    assert_int_equal(n, model[i].size[d.seq]);
    check_trace(i, d.seq);
    bool replay = rnd(2);
    uint64_t seq = d.seq;
    assert_int_equal(replay ? sub_replay(subs[i][k], seq) : sub_drop_dead(subs[i][k], seq), 0);
    assert_int_equal(sub_replay(subs[i][k], seq), -ENOENT);
    model[i].subs[k].fate[seq] = replay ? OPEN : ACKED_LATELY;
    streams_commit(q, true);
}

static void commit(bool sync)
{
    streams_commit(q, sync);
    for (int i = 0; i < N_STREAMS; i++) {
        model[i].confirmed = model[i].n;
        for (int k = 0; sync && k < N_SUBS; k++)
            for (uint64_t seq = 1; seq <= model[i].n; seq++)
                if (model[i].subs[k].fate[seq] == ACKED_LATELY || model[i].subs[k].fate[seq] == DIED_LATELY)
                    model[i].subs[k].fate[seq]++;
    }
}

static void restart(bool killed)
{
    for (int i = 0; i < N_STREAMS; i++)
        for (int k = 0; k < N_SUBS; k++)
            for (int c = 0; c < N_CONSUMERS; c++)
                if (consumers[i][k][c])
                    consumer_detach(consumers[i][k][c], false, wall);
    if (!killed)
        commit(true);
    killed ? streams_abandon(q) : streams_close(q);
    open_all();
    for (int i = 0; i < N_STREAMS; i++) {
        struct stream_figures f;
        stream_figures(streams[i], &f);
        assert_true(f.next_seq > model[i].confirmed && f.next_seq <= model[i].n + 1);
        number[i] -= model[i].n - (f.next_seq - 1);
        model[i].n = f.next_seq - 1;
        for (int k = 0; k < N_SUBS; k++) {
            forget_leases(i, k);
            for (uint64_t seq = 1; seq < MAX_SEQ; seq++) {
                uint8_t *fate = &model[i].subs[k].fate[seq];
                if (seq > model[i].n)
                    *fate = OPEN;
                else if (*fate == ACKED_LATELY || *fate == DIED_LATELY)
                    *fate = MAYBE;
            }
            died(i, k);
        }
    }
}

struct drained {
    int stream, sub;
    uint8_t *seen;
    struct range got[1000];
    size_t n;
};

static void on_drained(void *arg, uint64_t seq, int deliveries, int64_t at, const void *p, size_t n)
{
    struct drained *d = arg;
    (void)deliveries;
    (void)at;
    (void)p;
    assert_true(seq <= model[d->stream].n && n == model[d->stream].size[seq]);
    check_trace(d->stream, seq);
    assert_int_equal(d->seen[seq], 0);
    d->seen[seq] = 1;
    d->got[d->n++] = (struct range){seq, seq};
}

/* Everything that is open is handed out, once; nothing else is. Before a restart: exactly what the model says. */
static void drain(bool exact)
{
    for (int i = 0; i < N_STREAMS; i++)
        for (int k = 0; k < N_SUBS; k++) {
            struct drained d = {.stream = i, .sub = k, .seen = xcalloc(MAX_SEQ + 1, 1)};
            struct dead_letter l;
            struct sub_figures f;
            struct consumer *c = sub_attach(subs[i][k], NULL);
            consumer_set_window(c, 1 << 20, 1ULL << 40);
            for (;;) {
                size_t n = consumer_lease(c, 1000, 1 << 30, now, on_drained, &d);
                if (!n)
                    break;
                assert_int_equal(sub_ack(subs[i][k], d.got, NULL, d.n, now), n);
                d.n = 0;
            }
            for (uint64_t seq = 1; sub_next_dead(subs[i][k], seq, &l); seq = l.seq + 1)
                d.seen[l.seq] = 2;
            for (uint64_t seq = 1; seq <= model[i].n; seq++) {
                uint8_t fate = model[i].subs[k].fate[seq];
                if (fate == OPEN && exact)
                    assert_int_equal(d.seen[seq], 1);
                if (fate == ACKED || fate == ACKED_LATELY)
                    assert_int_equal(d.seen[seq], 0);
                if (fate == DIED)
                    assert_int_equal(d.seen[seq], 2);
            }
            sub_figures(subs[i][k], &f);
            assert_int_equal(f.ready + f.leased + f.delayed + f.lost, 0);
            consumer_detach(c, false, wall);
            free(d.seen);
        }
}

static void model_init(void)
{
    for (int i = 0; i < N_STREAMS; i++) {
        number[i] = 0;
        model[i].n = model[i].confirmed = 0;
        model[i].size = xcalloc(MAX_SEQ + 1, sizeof *model[i].size);
        model[i].trace = xcalloc(MAX_SEQ + 1, sizeof *model[i].trace);
        for (int k = 0; k < N_SUBS; k++) {
            model[i].subs[k].fate = xcalloc(MAX_SEQ + 1, 1);
            model[i].subs[k].deliveries = xcalloc(MAX_SEQ + 1, 1);
            model[i].subs[k].leased = xcalloc(MAX_SEQ + 1, sizeof(bool));
        }
    }
}

static void model_fini(void)
{
    for (int i = 0; i < N_STREAMS; i++) {
        free(model[i].size);
        free(model[i].trace);
        for (int k = 0; k < N_SUBS; k++) {
            free(model[i].subs[k].fate);
            free(model[i].subs[k].deliveries);
            free(model[i].subs[k].leased);
        }
    }
}

static void one_seed(uint64_t seed, int steps)
{
    bool restarted = false;
    rng = seed * 0x9e3779b97f4a7c15ULL + 1;
    make_dir();
    model_init();
    open_all();
    for (int step = 0; step < steps; step++) {
        int i = (int)rnd(N_STREAMS), k = (int)rnd(N_SUBS), c = (int)rnd(N_CONSUMERS);
        uint32_t what = rnd(100);
        if (what < 40)
            publish(i);
        else if (what < 75)
            consume(i, k, c);
        else if (what < 78)
            detach(i, k, c);
        else if (what < 80)
            pass_time();
        else if (what < 83)
            replay_or_drop(i, k);
        else if (what < 98)
            commit(rnd(2));
        else if (what == 98) {
            commit(true);
            restart(rnd(2));
            restarted = true;
        } else
            while (streams_tidy(q)) {
            }
        if (restarted && rnd(3) == 0) { /* a kill in the middle of things, now and then */
            restarted = false;
            restart(true);
        }
    }
    commit(true);
    pass_time();
    drain(true);
    commit(true);
    restart(false);
    drain(false);
    while (streams_tidy(q)) {
    }
    for (int i = 0; i < N_STREAMS; i++) { /* with the dead letters gone, nothing is kept */
        struct stream_figures f;
        for (int k = 0; k < N_SUBS; k++)
            for (struct dead_letter d; sub_next_dead(subs[i][k], 1, &d);)
                assert_int_equal(sub_drop_dead(subs[i][k], d.seq), 0);
        stream_apply_retention(streams[i], 0, 0, 0);
        stream_figures(streams[i], &f);
        assert_int_equal(f.bytes, 0);
    }
    streams_close(q);
    model_fini();
    remove_dir();
}

static void test_model(void **state)
{
    (void)state;
    const char *one = getenv("SIMBDP_SEED");
    for (uint64_t seed = one ? strtoull(one, NULL, 10) : 1; seed <= (one ? strtoull(one, NULL, 10) : 8); seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        one_seed(seed, 1500);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
