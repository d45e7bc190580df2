/* A tenant's streams from one store into another: what they are goes along, what is damaged leaves nothing, what is cut short by a
 * kill is dropped or goes on. */
#include "streams_check.h"

#include "programs/broker/store/moves_parts.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static uint32_t note(const struct stream *st)
{
    (void)st;
    return 2;
}

static void open_store(void)
{
    struct err e = {0};
    assert_int_equal(streams_open(dir_fd, marks(), &q, &e), 0);
}

static void export_all(const char *tenant, size_t part, struct buf *out)
{
    struct export_at at = {0};
    struct err e = {0};
    out->n = 0;
    while (!at.end)
        assert_int_equal(export_part(q, tenant, &at, part, note, out, &e), 0);
}

static int import_all(const char *tenant, const void *p, size_t n, struct err *e)
{
    struct import *m;
    int fd = memfd_create("streams", MFD_CLOEXEC);
    assert_true(fd >= 0 && fd_write_all(fd, p, n) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    int r = import_new(q, tenant, fd, &m, e);
    if (r < 0)
        return r;
    while ((r = import_step(m, 300, e)) > 0)
        streams_commit(q, false);
    import_free(m);
    streams_commit(q, false);
    return r;
}

/* Ten messages of two publishers; of them app "x" has done some, one is dead, one was delivered, app "y" is at its beginning. */
static void fill(const char *stream)
{
    struct sub *x = one_sub(stream, "x"), *y = one_sub(stream, "y");
    struct message v[10];
    uint64_t first;
    size_t known;
    struct taken t;
    static const char trace[MESSAGE_TRACE_BYTES] = "abcdefghijklmnopqrstuvwxy";
    (void)y;
    for (int i = 0; i < 10; i++)
        v[i] = (struct message){"0123456789" + i, (size_t)(10 - i), i == 9 ? trace : NULL};
    assert_int_equal(stream_publish(sub_stream(x), 7, 1, v, 5, wall, &first, &known), 0);
    assert_int_equal(stream_publish(sub_stream(x), 8, 1, v + 5, 5, wall, &first, &known), 0);
    struct consumer *c = consumer(x);
    take(c, &t);
    sub_ack(x, (const struct range[]){{1, 3}, {6, 6}}, NULL, 2, now);
    consumer_nack(c, &(struct range){5, 5}, 1, -1, "no good", now, wall);
    consumer_detach(c, false, wall);
    streams_commit(q, true);
}

static void assert_filled(const char *stream)
{
    struct stream *st = streams_find(q, stream);
    struct stream_figures f;
    struct sub_figures x, y;
    struct dead_letter d;
    struct taken t;
    size_t n;
    int64_t at;
    assert_non_null(st);
    stream_figures(st, &f);
    sub_figures(stream_sub(st, "x"), &x);
    sub_figures(stream_sub(st, "y"), &y);
    assert_int_equal(f.next_seq, 11);
    assert_int_equal(x.ready, 5);
    assert_int_equal(x.dead, 1);
    assert_int_equal(x.acked, 4);
    assert_int_equal(y.ready, 10);
    assert_int_equal(x.lost + y.lost, 0);
    assert_true(sub_next_dead(stream_sub(st, "x"), 1, &d) && d.seq == 5 && !strcmp(d.reason, "no good"));
    assert_memory_equal(stream_read(st, 4, &n, &at), "3456789", 7);
    assert_int_equal(n, 7);
    assert_null(stream_trace(st, 9));
    assert_memory_equal(stream_trace(st, 10), "abcdefghijklmnopqrstuvwxy", 25);
    assert_int_equal(stream_n_known(st, 7, 1, 10), 5);
    assert_int_equal(stream_n_known(st, 8, 1, 10), 5);
    struct consumer *c = consumer(stream_sub(st, "x"));
    take(c, &t);
    assert_int_equal(t.n, 5);
    assert_int_equal(t.seqs[0], 4);
    assert_int_equal(t.seqs[1], 7);
    consumer_detach(c, false, wall);
}

struct made {
    struct buf file;
    unsigned char x[EPOCH_BYTES], y[EPOCH_BYTES];
};

static void make_file(struct made *m)
{
    make_dir();
    open_store();
    fill("acme/a");
    fill("acme/b");
    fill("beta/a");
    sub_epoch(stream_sub(streams_find(q, "acme/a"), "x"), 4, m->x);
    sub_epoch(stream_sub(streams_find(q, "acme/a"), "y"), 4, m->y);
    export_all("acme", 1, &m->file);
    AUTO_BUF struct buf whole = {0};
    export_all("acme", SIZE_MAX, &whole);
    assert_int_equal(whole.n, m->file.n);
    assert_memory_equal(whole.p, m->file.p, whole.n);
    streams_close(q);
    remove_dir();
}

static void assert_epochs(const struct made *m, const char *stream)
{
    unsigned char at[EPOCH_BYTES];
    sub_epoch(stream_sub(streams_find(q, stream), "x"), 4, at);
    assert_memory_equal(at, m->x, EPOCH_BYTES);
    sub_epoch(stream_sub(streams_find(q, stream), "y"), 4, at);
    assert_memory_equal(at, m->y, EPOCH_BYTES);
}

static void count(void *arg, const char *name, uint32_t of)
{
    assert_int_equal(of, 2);
    assert_true(!strcmp(name, "a") || !strcmp(name, "b"));
    ++*(int *)arg;
}

/* Also over restarts between the steps, and with empty streams that the configuration made. */
static void test_what_streams_are_goes_along(void **state)
{
    struct made m = {0};
    struct err e = {0};
    (void)state;
    make_file(&m);
    for (int restarts = 0; restarts < 2; restarts++) {
        int n = 0;
        make_dir();
        open_store();
        one_sub("acme/a", "x");
        publish_n(one_sub("gamma/g", "x"), 3, 100);
        streams_commit(q, true);
        assert_int_equal(import_all("acme", m.file.p, m.file.n, &e), 0);
        if (restarts) {
            streams_close(q);
            open_store();
        }
        arrivals_each(q, "acme", count, &n);
        assert_int_equal(n, 2);
        assert_true(stream_is_pristine(streams_find(q, "acme/a")));
        assert_null(streams_find(q, "acme/b"));
        assert_int_equal(arrivals_settle(q, "acme", &e), 2);
        assert_int_equal(arrivals_settle(q, "acme", &e), 0);
        streams_commit(q, true);
        for (int again = 0; again < 2 + restarts; again++) {
            assert_filled("acme/a");
            assert_filled("acme/b");
            assert_epochs(&m, "acme/a");
            assert_int_equal(import_all("acme", m.file.p, m.file.n, &e), ERR_REFUSED);
            streams_commit(q, true);
            restarts ? streams_close(q) : streams_abandon(q);
            open_store();
        }
        publish_n(stream_sub(streams_find(q, "acme/a"), "x"), 1, 10);
        struct stream_figures f;
        stream_figures(streams_find(q, "acme/a"), &f);
        assert_int_equal(f.next_seq, 12);
        streams_close(q);
        remove_dir();
    }
    buf_fini(&m.file);
}

/* Cut, a bit changed, something behind it: refused, and nothing of it stays. */
static void test_what_is_damaged_leaves_nothing(void **state)
{
    struct made m = {0};
    struct err e = {0};
    (void)state;
    make_file(&m);
    make_dir();
    open_store();
    for (size_t i = 0; i < m.file.n; i += 5) {
        assert_true(import_all("acme", m.file.p, i, &e) < 0);
        m.file.p[i] = (char)(m.file.p[i] ^ 1 << i % 8);
        assert_true(import_all("acme", m.file.p, m.file.n, &e) < 0);
        m.file.p[i] = (char)(m.file.p[i] ^ 1 << i % 8);
        assert_int_equal(q->arriving.n, 0);
        assert_int_equal(q->by_id.n, 0);
    }
    buf_adds(&m.file, "x");
    assert_int_equal(import_all("acme", m.file.p, m.file.n, &e), ERR_FORMAT);
    m.file.n--;
    m.file.p[7] = '2';
    assert_int_equal(import_all("acme", m.file.p, m.file.n, &e), ERR_VERSION);
    m.file.p[7] = '1';
    assert_int_equal(import_all("acme", m.file.p, m.file.n, &e), 0);
    streams_close(q);
    remove_dir();
    buf_fini(&m.file);
}

/* Killed while it loads: what is there is not settled, and the next one drops it. */
static void test_killed_while_it_loads(void **state)
{
    struct made m = {0};
    struct err e = {0};
    struct import *k;
    (void)state;
    make_file(&m);
    make_dir();
    pid_t pid = fork();
    if (pid == 0) {
        open_store();
        int fd = memfd_create("streams", MFD_CLOEXEC);
        bool ok = fd >= 0 && fd_write_all(fd, m.file.p, m.file.n) == 0 && lseek(fd, 0, SEEK_SET) == 0 &&
                  import_new(q, "acme", fd, &k, &e) == 0 && import_step(k, 600, &e) == 1;
        streams_commit(q, true);
        _exit(!ok);
    }
    int status;
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    open_store();
    assert_int_equal(q->arriving.n, 1);
    assert_int_equal(arrivals_settle(q, "acme", &e), ERR_REFUSED);
    assert_int_equal(import_all("acme", m.file.p, m.file.n, &e), 0);
    assert_int_equal(arrivals_settle(q, "acme", &e), 2);
    assert_filled("acme/b");
    streams_close(q);
    remove_dir();
    buf_fini(&m.file);
}

/* Few bytes that say of a subscription that millions of messages lie between its floor and its cursor. */
static void test_few_bytes_cost_little(void **state)
{
    struct made m = {0};
    struct err e = {0};
    uint64_t record = 0;
    (void)state;
    make_file(&m);
    unsigned char *p = (unsigned char *)m.file.p;
    for (size_t at = 8; at < m.file.n; at += le_u32(p + at), record++) {
        if (p[at + 8] == REC_STREAM)
            le_set_u64(p + at + MOVES_HEADER + 8, UINT64_C(1) << 40);
        if (p[at + 8] == REC_SUB)
            le_set_u64(p + at + MOVES_HEADER + 16, UINT64_C(1) << 40);
        le_set_u32(p + at + 4, moves_check_of(p + at, le_u32(p + at), record));
    }
    make_dir();
    open_store();
    assert_int_equal(import_all("acme", m.file.p, m.file.n, &e), ERR_FORMAT);
    assert_int_equal(q->arriving.n, 0);
    streams_close(q);
    remove_dir();
    buf_fini(&m.file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_streams_are_goes_along),
        cmocka_unit_test(test_what_is_damaged_leaves_nothing),
        cmocka_unit_test(test_killed_while_it_loads),
        cmocka_unit_test(test_few_bytes_cost_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
