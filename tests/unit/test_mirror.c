/* Streams that are copies of what is kept elsewhere: what is passed over, what a new store takes up, and what damage costs. */
#include "streams_check.h"

static struct stream *open_mirror(struct sub **ret)
{
    struct err e = {0};
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
    *ret = one_sub("t/a", "x");
    return sub_stream(*ret);
}

static void mirror_n(struct stream *st, uint64_t seq, uint64_t publisher, uint64_t number, size_t n)
{
    struct message v[100];
    for (size_t i = 0; i < n; i++)
        v[i] = (struct message){"m", 1, NULL};
    assert_int_equal(stream_mirror(st, seq, publisher, number, v, n, wall), 0);
}

static void assert_takes(struct sub *s, const uint64_t *seqs, size_t n)
{
    struct taken t = {.n = 0};
    struct consumer *c = consumer(s);
    take(c, &t);
    assert_int_equal(t.n, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(t.seqs[i], seqs[i]);
    consumer_detach(c, false, wall);
}

/* Whatever lies there twice comes once, and at the same place after a restart. */
static void test_what_was_sent_before_is_passed_over(void **state)
{
    struct sub *s;
    struct sub_figures f;
    (void)state;
    make_dir();
    struct stream *st = open_mirror(&s);
    assert_int_equal(stream_adopt(st, stream_epoch(st), 0, 1), 0);
    mirror_n(st, 1, 7, 1, 3);  /* 1 to 3 */
    mirror_n(st, 4, 7, 2, 3);  /* 2 and 3 again, then 4: sequence 6 */
    mirror_n(st, 7, 8, 2, 1);  /* another publisher's 2 */
    mirror_n(st, 10, 7, 5, 1); /* what is between is nobody's */
    mirror_n(st, 11, 7, 1, 5); /* all of it again */
    assert_int_equal(stream_n_known(st, 7, 1, 10), 5);
    assert_int_equal(stream_n_known(st, 7, 6, 10), 0);
    for (int again = 0; again < 2; again++) {
        struct err e = {0};
        sub_figures(s, &f);
        assert_int_equal(f.ready, 6);
        assert_takes(s, (const uint64_t[]){1, 2, 3, 6, 7, 10}, 6);
        streams_close(q);
        assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
        st = streams_find(q, "t/a");
        s = stream_sub(st, "x");
        assert_true(stream_is_mirror(st));
        sub_figures(s, &f);
        assert_int_equal(f.lost, 0);
        struct stream_figures g;
        stream_figures(st, &g);
        assert_int_equal(g.next_seq, 16);
    }
    streams_close(q);
    remove_dir();
}

/* The epoch of what a store is made of, the sequences that it had, and not what was done. */
static void test_a_new_store_takes_up(void **state)
{
    static const unsigned char epoch[EPOCH_BYTES] = "0123456789abcde";
    struct sub *s;
    unsigned char at[EPOCH_BYTES], later[EPOCH_BYTES];
    AUTO_BUF struct buf done = {0};
    (void)state;
    make_dir();
    struct stream *st = open_mirror(&s);
    assert_true(stream_is_pristine(st));
    assert_int_equal(stream_adopt(st, epoch, 100, 111), 0);
    assert_memory_equal(stream_epoch(st), epoch, EPOCH_BYTES);
    mirror_n(st, 111, 7, 1, 10);
    sub_skip(s, (struct range){111, 112});
    sub_skip(s, (struct range){115, 116});
    mirror_n(st, 121, 7, 11, 5);
    sub_skip(s, (struct range){119, 130}); /* beyond what is there yet */
    sub_epoch(s, 113, at);
    assert_takes(s, (const uint64_t[]){113, 114, 117, 118}, 4);
    assert_int_equal(sub_begins(s), 113);
    sub_add_done(s, &done, 1000);
    assert_string_equal(done.p, "14-15,18-24,"); /* positions */
    streams_close(q);
    struct err e = {0};
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
    s = stream_sub(streams_find(q, "t/a"), "x");
    assert_int_equal(stream_base(sub_stream(s)), 100);
    sub_epoch(s, 113, later);
    assert_memory_equal(at, later, EPOCH_BYTES);
    assert_takes(s, (const uint64_t[]){113, 114, 117, 118}, 4);
    streams_close(q);
    remove_dir();
}

/* Somebody else serves it from now on: nothing of it is left, consumers stay, and what comes next may be another's. */
static void test_one_that_is_reset_is_as_new(void **state)
{
    static const unsigned char epoch[EPOCH_BYTES] = "0123456789abcde";
    struct sub *s;
    struct taken t = {.n = 0};
    struct sub_figures f;
    struct stream_figures g;
    (void)state;
    make_dir();
    struct stream *st = open_mirror(&s);
    assert_int_equal(stream_adopt(st, stream_epoch(st), 0, 1), 0);
    mirror_n(st, 1, 7, 1, 10);
    struct consumer *c = consumer(s);
    take(c, &t);
    assert_int_equal(t.n, 10);
    assert_int_equal(consumer_nack(c, &(struct range){2, 2}, 1, -1, "no", now, wall), 1);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(stream_reset(st), 0);
        assert_true(stream_is_pristine(st));
        assert_int_equal(consumer_n_leased(c), 0);
        assert_int_equal(stream_n_known(st, 7, 1, 10), 0);
        sub_figures(s, &f);
        stream_figures(st, &g);
        assert_int_equal(f.ready + f.leased + f.dead + f.lost, 0);
        assert_int_equal(g.bytes, 0);
        assert_int_equal(stream_adopt(st, epoch, 50, 61), 0);
        mirror_n(st, 61, 7, 1, 3);
        t.n = 0;
        take(c, &t);
        assert_int_equal(t.n, 3);
        assert_int_equal(sub_ack(s, &(struct range){61, 61}, NULL, 1, now), 1);
    }
    consumer_detach(c, false, wall);
    for (int how = 0; how < 2; how++) { /* and so after a restart, and after a kill */
        struct err e = {0};
        streams_commit(q, true);
        if (how)
            streams_abandon(q);
        else
            streams_close(q);
        assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
        st = streams_find(q, "t/a");
        s = stream_sub(st, "x");
        assert_memory_equal(stream_epoch(st), epoch, EPOCH_BYTES);
        assert_int_equal(stream_base(st), 50);
        sub_figures(s, &f);
        assert_int_equal(f.lost, 0);
        assert_int_equal(f.acked, 2);
        assert_takes(s, (const uint64_t[]){62, 63}, 2);
    }
    streams_close(q);
    remove_dir();
}

/* A dead letter is where whoever comes after has to begin. */
static void test_it_begins_at_the_first_dead_letter(void **state)
{
    struct sub *s;
    struct taken t = {.n = 0};
    AUTO_BUF struct buf done = {0};
    (void)state;
    make_dir();
    struct stream *st = open_mirror(&s);
    assert_int_equal(stream_adopt(st, stream_epoch(st), 0, 1), 0);
    mirror_n(st, 1, 0, 0, 5);
    struct consumer *c = consumer(s);
    take(c, &t);
    assert_int_equal(consumer_nack(c, &(struct range){2, 2}, 1, -1, "no", now, wall), 1);
    assert_int_equal(sub_ack(s, (const struct range[]){{1, 1}, {3, 4}}, NULL, 2, now), 3);
    assert_int_equal(sub_floor(s), 5);
    assert_int_equal(sub_begins(s), 2);
    sub_add_done(s, &done, 1000);
    assert_string_equal(done.p, "2-3,");
    done.n = 0;
    sub_add_done(s, &done, 10); /* no room for a range */
    assert_int_equal(done.n, 0);
    streams_close(q);
    remove_dir();
}

/* A copy of the store: nobody knows what it missed, and all of it is elsewhere. What was in it before is not. */
static void test_what_is_not_certain_is_dropped(void **state)
{
    struct sub *s;
    struct err e = {0};
    (void)state;
    for (int own = 0; own < 2; own++) {
        make_dir();
        struct stream *st = open_mirror(&s);
        if (own) {
            publish_n(s, 2, 10);
            streams_commit(q, true);
            assert_int_equal(stream_set_mirror(st, true, 2, false), 0);
        } else {
            assert_int_equal(stream_adopt(st, stream_epoch(st), 0, 1), 0);
        }
        mirror_n(st, own ? 3 : 1, 7, 1, 3);
        streams_close(q);
        assert_int_equal(unlinkat(dir_fd, "mark", 0), 0);
        assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
        st = streams_find(q, "t/a");
        assert_int_equal(st != NULL, own);
        if (own)
            assert_takes(stream_sub(st, "x"), (const uint64_t[]){1, 2, 3, 4, 5}, 5);
        streams_close(q);
        remove_dir();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_sent_before_is_passed_over), cmocka_unit_test(test_a_new_store_takes_up),
        cmocka_unit_test(test_one_that_is_reset_is_as_new),         cmocka_unit_test(test_it_begins_at_the_first_dead_letter),
        cmocka_unit_test(test_what_is_not_certain_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
