/* Who gets which message when, and what is counted of it: leases, suspects, windows, dead letters, tallies. */
#include "streams_check.h"

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
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
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
    stream_apply_retention(sub_stream(s), 0, 0, 0);
    stream_figures(sub_stream(s), &sf);
    assert_int_equal(sf.bytes, 0);
    streams_close(q);
    remove_dir();
}

static void test_windows_and_time(void **state)
{
    struct taken t;
    struct sub_figures f;
    (void)state;
    make_dir();
    struct err e = {0};
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
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
    int64_t due = sub_end_leases(s, now, wall);
    assert_int_equal(due, now + LEASE_MS);
    now += LEASE_MS - 1;
    assert_int_equal(consumer_extend(c, &(struct range){7, 7}, 1, now), 1);
    now += 2;
    sub_end_leases(s, now, wall);
    sub_figures(s, &f);
    assert_int_equal(f.leased, 1);
    now += LEASE_MS;
    sub_end_leases(s, now, wall);
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
    sub_end_leases(s, now, wall);
    sub_figures(s, &f);
    assert_int_equal(f.delayed, 0);
    assert_int_equal(f.redelivered, 1);
    /* age: what is too old is done, dead or not */
    stream_apply_retention(sub_stream(s), wall + 2000, 0, 0);
    sub_figures(s, &f);
    assert_int_equal(f.ready + f.leased + f.delayed, 0);
    assert_true(f.expired > 0);
    streams_close(q);
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
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
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
    sub_end_leases(s, now, wall);
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
    stream_apply_retention(sub_stream(s), 0, 0, 0);
    struct stream_figures sf;
    stream_figures(sub_stream(s), &sf);
    assert_int_equal(sf.bytes, 0);
    streams_close(q);
    remove_dir();
}

/* Counts are there after a kill as far as what they count is, and know what the journal was told. */
static void test_counts(void **state)
{
    struct err e = {0};
    struct taken t;
    (void)state;
    make_dir();
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
    struct sub *s = one_sub("t/s", "a");
    struct stream *st = sub_stream(s);
    publish_n(s, 10, 100);
    stream_count_refusal(st);
    assert_true(streams_record_refusals(q));
    struct consumer *c = consumer(s);
    assert_int_equal(take(c, &t), 10);
    assert_int_equal(sub_ack(s, (struct range[]){{1, 2}, {4, 5}}, (uint32_t[]){3, 0}, 2, now), 4);
    assert_int_equal(sub_ack(s, &(struct range){2, 3}, (uint32_t[]){7}, 1, now), 1); /* 2 is counted already */
    sub_tally_told(s);
    uint64_t line = sub_tally(s)->line;
    assert_int_equal(sub_ack(s, &(struct range){6, 6}, (uint32_t[]){1}, 1, now), 1);
    streams_commit(q, false);
    assert_int_equal(sub_ack(s, &(struct range){7, 7}, (uint32_t[]){1}, 1, now), 1); /* neither is written */
    streams_abandon(q);
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
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
    streams_close(q);
    remove_dir();
}

/* Each state that a message can come from says where it may go; what is over comes back by a replay alone. */
static void test_states(void **state)
{
    struct taken t;
    struct err e = {0};
    (void)state;
    make_dir();
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
    struct sub *s = one_sub("t/s", "a");
    publish_n(s, 4, 10);
    struct consumer *c = consumer(s);
    assert_int_equal(take(c, &t), 4);
    assert_int_equal(consumer_nack(c, &(struct range){1, 1}, 1, -1, "never", now, wall), 1);
    assert_int_equal(consumer_nack(c, &(struct range){2, 2}, 1, 5000, "later", now, wall), 1);
    assert_int_equal(consumer_nack(c, &(struct range){3, 3}, 1, 0, "again", now, wall), 1);
    const uint8_t expected[] = {SLOT_DEAD, SLOT_DELAYED, SLOT_AGAIN, SLOT_LEASED};
    for (uint64_t seq = 2; seq <= 4; seq++) /* the floor has passed the first */
        assert_int_equal(sub_slot_of(s, seq)->state, expected[seq - 1]);
    assert_int_equal(sub_replay(s, 1), 0);
    assert_int_equal(sub_slot_of(s, 1)->state, SLOT_AGAIN);
    consumer_detach(c, true, wall); /* it held one alone */
    assert_int_equal(sub_slot_of(s, 4)->state, SLOT_AGAIN);
    c = consumer(s);
    assert_int_equal(take(c, &t), 3);
    consumer_detach(c, true, wall);
    assert_int_equal(sub_slot_of(s, 1)->state, SLOT_SUSPECT);
    assert_int_equal(sub_ack(s, &(struct range){1, 4}, NULL, 1, now), 4);
    assert_int_equal(s->n_again + s->n_suspect + s->n_delayed + s->n_leased, 0);
    streams_close(q);
    remove_dir();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_poison), cmocka_unit_test(test_windows_and_time), cmocka_unit_test(test_many),
        cmocka_unit_test(test_counts), cmocka_unit_test(test_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
