/* The queues against a model of a few lines, over restarts, kills and damage. SIMBDP_SEED=N tries one seed. */
#include "check.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "programs/broker/queue_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { N_STREAMS = 3, N_SUBS = 2, MAX_SEQ = 60000, N_CONSUMERS = 3, LEASE_MS = 1000, MAX_DELIVERIES = 3 };

static uint64_t rng;

static uint32_t rnd(uint32_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)(rng >> 33) % n;
}

static char dir_name[64];
static int dir_fd;

static void make_dir(void)
{
    strcpy(dir_name, "/tmp/simbdp-queue-XXXXXX");
    assert_non_null(mkdtemp(dir_name));
    dir_fd = open(dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir_fd >= 0);
}

static int marks(void)
{
    int fd = openat(dir_fd, "mark", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void remove_dir(void)
{
    close(dir_fd);
    assert_int_equal(fd_remove_tree(AT_FDCWD, dir_name), 0);
}

/* ---- the model ---- */

enum fate { OPEN, MAYBE, ACKED_LATELY, ACKED, DIED_LATELY, DIED }; /* LATELY: not synced yet; MAYBE: it was lost, or not */

static struct {
    uint32_t *size; /* by sequence: of the payload, which repeats the sequence */
    uint64_t n, confirmed;
    struct {
        uint8_t *fate, *deliveries;
        bool *leased;
    } subs[N_SUBS];
} model[N_STREAMS];

static struct queues *q;
static struct stream *streams[N_STREAMS];
static struct sub *subs[N_STREAMS][N_SUBS];
static struct consumer *consumers[N_STREAMS][N_SUBS][N_CONSUMERS];
static int64_t now = 1000, wall = 1700000000000;
static uint64_t number[N_STREAMS];

static void open_all(void)
{
    struct err e = {0};
    assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
    for (int i = 0; i < N_STREAMS; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%d/s", i);
        assert_int_equal(queues_add_stream(q, name, &streams[i]), 0);
        for (int k = 0; k < N_SUBS; k++) {
            snprintf(name, sizeof name, "sub%d", k);
            assert_int_equal(stream_add_sub(streams[i], name, &subs[i][k]), 0);
            sub_configure(subs[i][k], LEASE_MS, MAX_DELIVERIES);
        }
    }
    memset(consumers, 0, sizeof consumers);
    queues_commit(q, true);
}

static void fill(char *p, size_t n, int stream, uint64_t seq)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(seq * 31 + (uint64_t)stream * 7 + i);
}

static void publish(int i)
{
    enum { MOST = 40 };
    static char bytes[MOST][9000];
    struct message v[MOST];
    size_t n = 1 + rnd(MOST), known;
    uint64_t first;
    if (model[i].n + n >= MAX_SEQ)
        return;
    for (size_t k = 0; k < n; k++) {
        v[k] = (struct message){bytes[k], rnd(20) ? rnd(300) : rnd(9000)};
        fill(bytes[k], v[k].n, i, model[i].n + k + 1);
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
            int64_t due = sub_tick(subs[i][k], now, wall);
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
    bool replay = rnd(2);
    uint64_t seq = d.seq;
    assert_int_equal(replay ? sub_replay(subs[i][k], seq) : sub_drop_dead(subs[i][k], seq), 0);
    assert_int_equal(sub_replay(subs[i][k], seq), -ENOENT);
    model[i].subs[k].fate[seq] = replay ? OPEN : ACKED_LATELY;
    queues_commit(q, true);
}

static void commit(bool sync)
{
    queues_commit(q, sync);
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
    killed ? queues_abandon(q) : queues_close(q);
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
            while (queues_tidy(q)) {
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
    while (queues_tidy(q)) {
    }
    for (int i = 0; i < N_STREAMS; i++) { /* with the dead letters gone, nothing is kept */
        struct stream_figures f;
        for (int k = 0; k < N_SUBS; k++)
            for (struct dead_letter d; sub_next_dead(subs[i][k], 1, &d);)
                assert_int_equal(sub_drop_dead(subs[i][k], d.seq), 0);
        stream_expire(streams[i], 0, 0, 0);
        stream_figures(streams[i], &f);
        assert_int_equal(f.bytes, 0);
    }
    queues_close(q);
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

/* ---- by hand ---- */

static struct sub *one_sub(const char *stream, const char *name)
{
    struct stream *st;
    struct sub *s;
    assert_int_equal(queues_add_stream(q, stream, &st), 0);
    assert_int_equal(stream_add_sub(st, name, &s), 0);
    sub_configure(s, LEASE_MS, MAX_DELIVERIES);
    return s;
}

static void publish_n(struct sub *s, int n, size_t size)
{
    AUTO_FREE char *p = xcalloc(1, size + 1);
    uint64_t first;
    size_t known;
    for (int i = 0; i < n; i++) {
        snprintf(p, size + 1, "%d", i + 1);
        assert_int_equal(stream_publish(sub_stream(s), 0, 0, &(struct message){p, size}, 1, wall, &first, &known), 0);
    }
}

struct taken {
    uint64_t seqs[5000];
    size_t n;
};

static void on_taken(void *arg, uint64_t seq, int deliveries, int64_t at, const void *p, size_t n)
{
    struct taken *t = arg;
    (void)deliveries;
    (void)at;
    (void)p;
    (void)n;
    t->seqs[t->n++] = seq;
}

static size_t take(struct consumer *c, struct taken *t)
{
    t->n = 0;
    return consumer_lease(c, 5000, 1 << 30, now, on_taken, t);
}

static struct consumer *consumer(struct sub *s)
{
    struct consumer *c = sub_attach(s, NULL);
    consumer_set_window(c, 5000, 1 << 30);
    return c;
}

/* One message of a batch kills whoever takes it. It dies alone, after as many deliveries as it may have. */
static void test_poison(void **state)
{
    struct taken t;
    struct dead_letter d;
    struct sub_figures f;
    enum { POISON = 57, N = 100 };
    (void)state;
    make_dir();
    struct err e = {0};
    assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
    struct sub *s = one_sub("t/s", "a");
    publish_n(s, N, 10);
    size_t most = 0, deaths = 0;
    for (int round = 0; round < 1000; round++) {
        struct consumer *c = consumer(s);
        bool killed = false;
        while (!killed && take(c, &t)) {
            for (size_t i = 0; i < t.n && !killed; i++) {
                killed = t.seqs[i] == POISON;
                if (!killed)
                    assert_int_equal(sub_ack(s, &(struct range){t.seqs[i], t.seqs[i]}, NULL, 1, now), 1);
            }
            if (round)
                most = t.n > most ? t.n : most;
        }
        deaths += killed;
        consumer_detach(c, true, wall);
        sub_figures(s, &f);
        if (!killed)
            break;
    }
    assert_int_equal(deaths, MAX_DELIVERIES);
    assert_int_equal(most, SUSPECT_GROUP);
    assert_int_equal(f.dead, 1);
    assert_int_equal(f.ready + f.leased, 0);
    assert_int_equal(f.acked, N - 1);
    assert_true(sub_next_dead(s, 1, &d));
    assert_int_equal(d.seq, POISON);
    assert_int_equal(d.deliveries, MAX_DELIVERIES);
    assert_string_equal(d.reason, "its consumer went away");
    /* replayed, it is an ordinary message again, in the same place */
    assert_int_equal(sub_replay(s, POISON), 0);
    struct consumer *c = consumer(s);
    assert_int_equal(take(c, &t), 1);
    assert_int_equal(t.seqs[0], POISON);
    assert_int_equal(sub_ack(s, &(struct range){POISON, POISON}, NULL, 1, now), 1);
    consumer_detach(c, false, wall);
    struct stream_figures sf;
    stream_expire(sub_stream(s), 0, 0, 0);
    stream_figures(sub_stream(s), &sf);
    assert_int_equal(sf.bytes, 0);
    queues_close(q);
    remove_dir();
}

static void test_windows_and_time(void **state)
{
    struct taken t;
    struct sub_figures f;
    (void)state;
    make_dir();
    struct err e = {0};
    assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
    struct sub *s = one_sub("t/s", "a");
    publish_n(s, 50, 100);
    struct consumer *c = sub_attach(s, NULL);
    consumer_set_window(c, 10, 350);
    assert_int_equal(take(c, &t), 3); /* bytes */
    assert_int_equal(take(c, &t), 0);
    assert_int_equal(sub_ack(s, &(struct range){1, 2}, NULL, 1, now), 2);
    assert_int_equal(take(c, &t), 2);
    consumer_set_window(c, 4, 1 << 20);
    assert_int_equal(take(c, &t), 1); /* number */
    assert_int_equal(t.seqs[0], 6);
    consumer_set_window(c, 100, 1); /* one is always possible */
    assert_int_equal(sub_ack(s, &(struct range){3, 6}, NULL, 1, now), 4);
    assert_int_equal(take(c, &t), 1);
    /* a lease that is extended does not run out, one that is not does; a nack waits */
    int64_t due = sub_tick(s, now, wall);
    assert_int_equal(due, now + LEASE_MS);
    now += LEASE_MS - 1;
    assert_int_equal(consumer_extend(c, &(struct range){7, 7}, 1, now), 1);
    now += 2;
    sub_tick(s, now, wall);
    sub_figures(s, &f);
    assert_int_equal(f.leased, 1);
    now += LEASE_MS;
    sub_tick(s, now, wall);
    sub_figures(s, &f);
    assert_int_equal(f.leased, 0);
    assert_int_equal(f.ready, 44);
    assert_int_equal(take(c, &t), 1); /* handed out again, first */
    assert_int_equal(t.seqs[0], 7);
    assert_int_equal(consumer_nack(c, &(struct range){7, 7}, 1, 5000, "later", now, wall), 1);
    sub_figures(s, &f);
    assert_int_equal(f.delayed, 1);
    assert_int_equal(take(c, &t), 1);
    assert_int_equal(t.seqs[0], 8);
    now += 5000;
    assert_int_equal(consumer_extend(c, &(struct range){8, 8}, 1, now), 1);
    sub_tick(s, now, wall);
    sub_figures(s, &f);
    assert_int_equal(f.delayed, 0);
    assert_int_equal(f.redelivered, 1);
    /* age: what is too old is done, dead or not */
    stream_expire(sub_stream(s), wall + 2000, 0, 0);
    sub_figures(s, &f);
    assert_int_equal(f.ready + f.leased + f.delayed, 0);
    assert_true(f.expired > 0);
    queues_close(q);
    remove_dir();
}

/* What a consumer holds on to does not make the broker remember what the others did meanwhile; many dead letters are dropped at
 * once. */
static void test_many(void **state)
{
    struct taken t;
    struct sub_figures f;
    struct dead_letter d;
    enum { N = 60000 };
    (void)state;
    make_dir();
    struct err e = {0};
    assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
    struct sub *s = one_sub("t/s", "a");
    publish_n(s, N, 1);
    struct consumer *slow = consumer(s), *quick = consumer(s);
    consumer_set_window(slow, 1, 1000);
    assert_int_equal(take(slow, &t), 1);
    consumer_set_window(quick, 1, 1000);
    for (int i = 1; i < N / 2; i++) {
        assert_int_equal(take(quick, &t), 1);
        assert_int_equal(sub_ack(s, &(struct range){t.seqs[0], t.seqs[0]}, NULL, 1, now), 1);
    }
    now += LEASE_MS + 1;
    sub_tick(s, now, wall);
    assert_int_equal(take(slow, &t), 1);
    assert_int_equal(t.seqs[0], 1);
    sub_configure(s, LEASE_MS, 1);
    consumer_detach(quick, false, wall);
    consumer_detach(slow, false, wall);
    quick = consumer(s);
    for (uint64_t n; (n = take(quick, &t));)
        assert_int_equal(consumer_nack(quick, &(struct range){1, N}, 1, 0, "no", now, wall), n);
    sub_figures(s, &f);
    assert_int_equal(f.dead, N / 2 + 1);
    for (uint64_t seq = 1; sub_next_dead(s, seq, &d); seq = d.seq + 1)
        assert_int_equal(seq % 2 ? sub_drop_dead(s, d.seq) : sub_replay(s, d.seq), 0);
    while (take(quick, &t))
        for (size_t i = 0; i < t.n; i++)
            assert_int_equal(sub_ack(s, &(struct range){t.seqs[i], t.seqs[i]}, NULL, 1, now), 1);
    sub_figures(s, &f);
    assert_int_equal(f.dead + f.ready + f.leased, 0);
    consumer_detach(quick, false, wall);
    stream_expire(sub_stream(s), 0, 0, 0);
    struct stream_figures sf;
    stream_figures(sub_stream(s), &sf);
    assert_int_equal(sf.bytes, 0);
    queues_close(q);
    remove_dir();
}

/* A store whose bytes were changed: what is whole is there, with its right content, and what is not is set aside. */
static void test_damage(void **state)
{
    enum { N = 3000 };
    (void)state;
    rng = 12345;
    for (int round = 0; round < 24; round++) {
        struct err e = {0};
        struct taken t;
        make_dir();
        assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
        struct sub *a = one_sub("t/a", "x"), *b = one_sub("t/b", "x");
        for (int i = 0; i < N; i++) {
            publish_n(i % 2 ? a : b, 1, 400);
            if (i % 10 == 0)
                queues_commit(q, true);
        }
        queues_close(q);
        DIR *d = opendir(dir_name);
        char paths[16][400];
        size_t n = 0;
        for (struct dirent *ent; (ent = readdir(d));)
            if (strstr(ent->d_name, ".seg"))
                snprintf(paths[n++], sizeof paths[0], "%s/%s", dir_name, ent->d_name);
        closedir(d);
        int fd = open(paths[rnd((uint32_t)n)], O_RDWR | O_CLOEXEC);
        struct stat st;
        fstat(fd, &st);
        if (round % 4 == 3) {
            assert_int_equal(ftruncate(fd, (off_t)rnd((uint32_t)st.st_size)), 0);
        } else {
            for (uint32_t k = 1 + rnd(round % 4 ? 5 : 200); k > 0; k--) {
                unsigned char byte;
                off_t at = (off_t)rnd((uint32_t)st.st_size);
                assert_int_equal(pread(fd, &byte, 1, at), 1);
                byte ^= (unsigned char)(1 << rnd(8));
                assert_int_equal(pwrite(fd, &byte, 1, at), 1);
            }
        }
        close(fd);
        for (int again = 0; again < 2; again++) { /* and it stays so */
            assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
            size_t i = 0, k = 0, all = 0;
            for (struct stream *s; (s = queues_next(q, &i));)
                for (struct sub *sub; (sub = stream_next_sub(s, &k)); k = 0) {
                    struct consumer *c = consumer(sub);
                    take(c, &t);
                    for (size_t m = 0; m < t.n; m++) {
                        size_t len;
                        int64_t at;
                        const char *p = stream_read(s, t.seqs[m], &len, &at);
                        assert_non_null(p);
                        assert_int_equal(len, 400);
                        assert_string_equal(p, "1");
                    }
                    all += t.n;
                    consumer_detach(c, false, wall);
                    break;
                }
            if (round % 4 && round % 4 != 3)
                assert_true(all >= N - 5 * 400); /* each bit costs a record at most, but for those that name streams */
            a = one_sub("t/a", "x");
            publish_n(a, 1, 400); /* and it goes on */
            queues_close(q);
        }
        remove_dir();
    }
}

/* Small records fill some segment to its last byte; the disk is not full then, and the next one is begun. */
static void test_full_segments(void **state)
{
    struct err e = {0};
    (void)state;
    make_dir();
    assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
    struct sub *a = one_sub("t/a", "x");
    for (int i = 0; i < 200000; i++) {
        publish_n(a, 1, (size_t)(1 + i % 97));
        assert_false(queues_full(q));
        if (i % 500 == 0)
            queues_commit(q, true);
    }
    queues_close(q);
    remove_dir();
}

static void epoch_at(const struct sub *s, uint64_t seq, unsigned char ret[QUEUE_EPOCH])
{
    struct range same = sub_epoch(s, seq, ret);
    assert_true(same.first <= seq && seq <= same.last);
}

/* Each subscription has an epoch of its own, which is the same for ever; those of earlier versions have it from where they are
 * opened on, and a batch has one epoch. */
static void test_epochs(void **state)
{
    unsigned char shared[QUEUE_EPOCH], v[4][QUEUE_EPOCH];
    struct err e = {0};
    struct taken t;
    (void)state;
    make_dir();
    assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
    struct sub *a = one_sub("t/s", "a"), *b = one_sub("t/s", "b"), *other = one_sub("t/r", "a");
    publish_n(a, 10, 10);
    epoch_at(a, 1, v[0]);
    epoch_at(b, 1, v[1]);
    epoch_at(other, 1, v[2]);
    assert_memory_not_equal(v[0], v[1], QUEUE_EPOCH);
    assert_memory_not_equal(v[0], v[2], QUEUE_EPOCH);
    /* a's record is written as an earlier version wrote it */
    AUTO_BUF struct buf old = {0};
    a->shared_below = SHARED_NOT_SET;
    sub_record(a, &old);
    assert_int_equal(store_append(q->store, REC_SUB, &(struct iovec){old.p, old.n}, 1, true, NULL), 0);
    memcpy(shared, stream_epoch(sub_stream(a)), QUEUE_EPOCH);
    for (int again = 0; again < 2; again++) {
        again ? queues_abandon(q) : queues_close(q);
        assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
        a = one_sub("t/s", "a");
        b = one_sub("t/s", "b");
        if (again == 0) {
            publish_n(a, 5, 10);
            queues_commit(q, true);
        }
        epoch_at(a, 10, v[2]);
        epoch_at(a, 11, v[3]);
        assert_memory_equal(v[2], shared, QUEUE_EPOCH);
        assert_memory_equal(v[3], v[0], QUEUE_EPOCH);
        epoch_at(b, 1, v[2]);
        assert_memory_equal(v[2], v[1], QUEUE_EPOCH);
    }
    struct consumer *c = consumer(a);
    assert_int_equal(take(c, &t), 10);
    assert_int_equal(take(c, &t), 5);
    consumer_detach(c, false, wall);
    queues_close(q);
    remove_dir();
}

static void change_marks(off_t at, const void *p, size_t n)
{
    int fd = marks();
    assert_int_equal(pwrite(fd, p, n, at), n);
    close(fd);
}

/* What a stream's marks are worth: none and a copy begin an epoch, one that is behind, as after a power cut, does not; what was
 * published keeps its epoch over restarts and segments. */
static void test_marks(void **state)
{
    unsigned char v[2][QUEUE_EPOCH], old[4 * MARK_SLOT];
    struct err e = {0};
    struct range same[2];
    (void)state;
    make_dir();
    assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
    struct sub *s = one_sub("t/s", "a");
    publish_n(s, 10, 10);
    queues_commit(q, true);
    int fd = marks();
    assert_int_equal(pread(fd, old, sizeof old, 0), 3 * MARK_SLOT); /* the file, the stream, the subscription */
    close(fd);
    publish_n(s, 10, 10);
    queues_close(q);
    for (int round = 0; round < 4; round++) {
        if (round == 0)
            change_marks(0, old, 3 * MARK_SLOT); /* behind */
        if (round == 1)
            change_marks(MARK_SLOT + 17, "x", 1); /* the stream's is damaged */
        if (round == 2)
            change_marks(32, "x", 1), change_marks(0, "x", 1); /* the file's */
        if (round == 3)
            assert_int_equal(unlinkat(dir_fd, "mark", 0), 0);
        assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
        s = one_sub("t/s", "a");
        uint64_t next = (uint64_t)(21 + 3 * round);
        same[0] = sub_epoch(s, next - 1, v[0]);
        same[1] = sub_epoch(s, next, v[1]);
        assert_int_equal(memcmp(v[0], v[1], QUEUE_EPOCH) == 0, round == 0);
        assert_true(round == 0 || (same[0].last == next - 1 && same[1].first == next));
        publish_n(s, 3, 10);
        queues_close(q);
    }
    unsigned char epochs[40][QUEUE_EPOCH];
    for (int again = 0; again < 3; again++) { /* over many segments, of which the first ones go */
        assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
        s = one_sub("t/s", "a");
        for (uint64_t seq = 15; seq < 40; seq++) {
            sub_epoch(s, seq, v[0]);
            if (again)
                assert_memory_equal(v[0], epochs[seq], QUEUE_EPOCH);
            memcpy(epochs[seq], v[0], QUEUE_EPOCH);
        }
        publish_n(s, 1500, 4000);
        struct consumer *c = consumer(s);
        struct taken t;
        assert_true(take(c, &t) > 0);
        if (!again)
            assert_int_equal(sub_ack(s, &(struct range){1, 14}, NULL, 1, now), 14);
        consumer_detach(c, false, wall);
        queues_commit(q, true);
        while (queues_tidy(q)) {
        }
        queues_close(q);
    }
    remove_dir();
}

/* Without marks, what was done with messages says that they were there: their sequences are not used again. */
static void test_acks_vouch(void **state)
{
    struct err e = {0};
    struct taken t;
    struct sub_figures f;
    char path[200];
    (void)state;
    make_dir();
    assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
    struct sub *s = one_sub("t/s", "a");
    publish_n(s, 10, 100);
    struct store_pos at = sub_stream(s)->extents[9].at;
    struct consumer *c = consumer(s);
    assert_int_equal(take(c, &t), 10);
    assert_int_equal(sub_ack(s, &(struct range){1, 10}, NULL, 1, now), 10);
    consumer_detach(c, false, wall);
    queues_close(q);
    snprintf(path, sizeof path, "%s/%016llx.seg", dir_name, (unsigned long long)at.segment);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "?", 1, at.offset + STORE_HEADER + 50), 1);
    close(fd);
    assert_int_equal(unlinkat(dir_fd, "mark", 0), 0);
    assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
    s = one_sub("t/s", "a");
    publish_n(s, 1, 100);
    sub_figures(s, &f);
    assert_int_equal(f.ready, 1);
    assert_int_equal(f.lost, 0);
    c = consumer(s);
    assert_int_equal(take(c, &t), 1);
    assert_int_equal(t.seqs[0], 11);
    consumer_detach(c, false, wall);
    queues_close(q);
    remove_dir();
}

/* Counts are there after a kill as far as what they count is, and know what the journal was told. */
static void test_counts(void **state)
{
    struct err e = {0};
    struct taken t;
    (void)state;
    make_dir();
    assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
    struct sub *s = one_sub("t/s", "a");
    struct stream *st = sub_stream(s);
    publish_n(s, 10, 100);
    stream_count_refusal(st);
    assert_true(queues_record_refusals(q));
    struct consumer *c = consumer(s);
    assert_int_equal(take(c, &t), 10);
    assert_int_equal(sub_ack(s, (struct range[]){{1, 2}, {4, 5}}, (uint32_t[]){3, 0}, 2, now), 4);
    assert_int_equal(sub_ack(s, &(struct range){2, 3}, (uint32_t[]){7}, 1, now), 1); /* 2 is counted already */
    sub_tally_told(s);
    uint64_t line = sub_tally(s)->line;
    assert_int_equal(sub_ack(s, &(struct range){6, 6}, (uint32_t[]){1}, 1, now), 1);
    queues_commit(q, false);
    assert_int_equal(sub_ack(s, &(struct range){7, 7}, (uint32_t[]){1}, 1, now), 1); /* neither is written */
    queues_abandon(q);
    assert_int_equal(queues_open(dir_fd, marks(), &q, &e), 0);
    s = one_sub("t/s", "a");
    st = sub_stream(s);
    const struct tally *v = sub_tally(s);
    assert_int_equal(v->v[TALLY_MESSAGES], 6);
    assert_int_equal(v->v[TALLY_BYTES], 600);
    assert_int_equal(v->v[TALLY_ROWS], 2 * 3 + 7 + 1);
    assert_int_equal(tally_untold(v, TALLY_MESSAGES), 1);
    assert_int_equal(v->line, line);
    assert_int_equal(stream_tally(st)->v[TALLY_MESSAGES], 10);
    assert_int_equal(stream_tally(st)->v[TALLY_BYTES], 1000);
    assert_int_equal(stream_tally(st)->v[TALLY_REFUSED], 1);
    /* what an earlier program delivered has its bytes, too */
    assert_int_equal(sub_ack(s, &(struct range){7, 8}, NULL, 1, now), 2);
    assert_int_equal(sub_tally(s)->v[TALLY_BYTES], 800);
    queues_close(q);
    remove_dir();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_poison), cmocka_unit_test(test_windows_and_time), cmocka_unit_test(test_many),
        cmocka_unit_test(test_damage), cmocka_unit_test(test_full_segments),    cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_marks),  cmocka_unit_test(test_acks_vouch),       cmocka_unit_test(test_counts),
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
