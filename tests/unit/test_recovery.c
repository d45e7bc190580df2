/* What a store is worth after damage, without its marks, over epochs and full segments. */
#include "streams_check.h"

#include <dirent.h>
#include <sys/stat.h>

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
        assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
        struct sub *a = one_sub("t/a", "x"), *b = one_sub("t/b", "x");
        for (int i = 0; i < N; i++) {
            publish_n(i % 2 ? a : b, 1, 400);
            if (i % 10 == 0)
                streams_commit(q, true);
        }
        streams_close(q);
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
            assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
            size_t i = 0, k = 0, all = 0;
            for (struct stream *s; (s = streams_next(q, &i));)
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
            streams_close(q);
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
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
    struct sub *a = one_sub("t/a", "x");
    for (int i = 0; i < 200000; i++) {
        publish_n(a, 1, (size_t)(1 + i % 97));
        assert_false(streams_full(q));
        if (i % 500 == 0)
            streams_commit(q, true);
    }
    streams_close(q);
    remove_dir();
}

static void epoch_at(const struct sub *s, uint64_t seq, unsigned char ret[EPOCH_BYTES])
{
    struct range same = sub_epoch(s, seq, ret);
    assert_true(same.first <= seq && seq <= same.last);
}

/* Each subscription has an epoch of its own, which is the same for ever; those of earlier versions have it from where they are
 * opened on, and a batch has one epoch. */
static void test_epochs(void **state)
{
    unsigned char shared[EPOCH_BYTES], v[4][EPOCH_BYTES];
    struct err e = {0};
    struct taken t;
    (void)state;
    make_dir();
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
    struct sub *a = one_sub("t/s", "a"), *b = one_sub("t/s", "b"), *other = one_sub("t/r", "a");
    publish_n(a, 10, 10);
    epoch_at(a, 1, v[0]);
    epoch_at(b, 1, v[1]);
    epoch_at(other, 1, v[2]);
    assert_memory_not_equal(v[0], v[1], EPOCH_BYTES);
    assert_memory_not_equal(v[0], v[2], EPOCH_BYTES);
    /* a's record is written as an earlier version wrote it */
    AUTO_BUF struct buf old = {0};
    a->shared_below = SHARED_NOT_SET;
    sub_record(a, &old);
    assert_int_equal(seglog_append(q->log, REC_SUB, &(struct iovec){old.p, old.n}, 1, true, NULL), 0);
    memcpy(shared, stream_epoch(sub_stream(a)), EPOCH_BYTES);
    for (int again = 0; again < 2; again++) {
        again ? streams_abandon(q) : streams_close(q);
        assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
        a = one_sub("t/s", "a");
        b = one_sub("t/s", "b");
        if (again == 0) {
            publish_n(a, 5, 10);
            streams_commit(q, true);
        }
        epoch_at(a, 10, v[2]);
        epoch_at(a, 11, v[3]);
        assert_memory_equal(v[2], shared, EPOCH_BYTES);
        assert_memory_equal(v[3], v[0], EPOCH_BYTES);
        epoch_at(b, 1, v[2]);
        assert_memory_equal(v[2], v[1], EPOCH_BYTES);
    }
    struct consumer *c = consumer(a);
    assert_int_equal(take(c, &t), 10);
    assert_int_equal(take(c, &t), 5);
    consumer_detach(c, false, wall);
    streams_close(q);
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
    unsigned char v[2][EPOCH_BYTES], old[4 * MARK_SLOT];
    struct err e = {0};
    struct range same[2];
    (void)state;
    make_dir();
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
    struct sub *s = one_sub("t/s", "a");
    publish_n(s, 10, 10);
    streams_commit(q, true);
    int fd = marks();
    assert_int_equal(pread(fd, old, sizeof old, 0), 3 * MARK_SLOT); /* the file, the stream, the subscription */
    close(fd);
    publish_n(s, 10, 10);
    streams_close(q);
    for (int round = 0; round < 4; round++) {
        if (round == 0)
            change_marks(0, old, 3 * MARK_SLOT); /* behind */
        if (round == 1)
            change_marks(MARK_SLOT + 17, "x", 1); /* the stream's is damaged */
        if (round == 2)
            change_marks(32, "x", 1), change_marks(0, "x", 1); /* the file's */
        if (round == 3)
            assert_int_equal(unlinkat(dir_fd, "mark", 0), 0);
        assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
        s = one_sub("t/s", "a");
        uint64_t next = (uint64_t)(21 + 3 * round);
        same[0] = sub_epoch(s, next - 1, v[0]);
        same[1] = sub_epoch(s, next, v[1]);
        assert_int_equal(memcmp(v[0], v[1], EPOCH_BYTES) == 0, round == 0);
        assert_true(round == 0 || (same[0].last == next - 1 && same[1].first == next));
        publish_n(s, 3, 10);
        streams_close(q);
    }
    unsigned char epochs[40][EPOCH_BYTES];
    for (int again = 0; again < 3; again++) { /* over many segments, of which the first ones go */
        assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
        s = one_sub("t/s", "a");
        for (uint64_t seq = 15; seq < 40; seq++) {
            sub_epoch(s, seq, v[0]);
            if (again)
                assert_memory_equal(v[0], epochs[seq], EPOCH_BYTES);
            memcpy(epochs[seq], v[0], EPOCH_BYTES);
        }
        publish_n(s, 1500, 4000);
        struct consumer *c = consumer(s);
        struct taken t;
        assert_true(take(c, &t) > 0);
        if (!again)
            assert_int_equal(sub_ack(s, &(struct range){1, 14}, NULL, 1, now), 14);
        consumer_detach(c, false, wall);
        streams_commit(q, true);
        while (streams_tidy(q)) {
        }
        streams_close(q);
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
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
    struct sub *s = one_sub("t/s", "a");
    publish_n(s, 10, 100);
    struct seglog_pos at = sub_stream(s)->extents[9].at;
    struct consumer *c = consumer(s);
    assert_int_equal(take(c, &t), 10);
    assert_int_equal(sub_ack(s, &(struct range){1, 10}, NULL, 1, now), 10);
    consumer_detach(c, false, wall);
    streams_close(q);
    snprintf(path, sizeof path, "%s/%016llx.seg", dir_name, (unsigned long long)at.segment);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "?", 1, at.offset + SEGLOG_HEADER + 50), 1);
    close(fd);
    assert_int_equal(unlinkat(dir_fd, "mark", 0), 0);
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
    s = one_sub("t/s", "a");
    publish_n(s, 1, 100);
    sub_figures(s, &f);
    assert_int_equal(f.ready, 1);
    assert_int_equal(f.lost, 0);
    c = consumer(s);
    assert_int_equal(take(c, &t), 1);
    assert_int_equal(t.seqs[0], 11);
    consumer_detach(c, false, wall);
    streams_close(q);
    remove_dir();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damage), cmocka_unit_test(test_full_segments), cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_marks),  cmocka_unit_test(test_acks_vouch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
