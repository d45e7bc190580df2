/* A store in a directory of its own, and the little that each test of it needs. */
#ifndef SIMBDP_STREAMS_CHECK_H
#define SIMBDP_STREAMS_CHECK_H

#include "check.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "programs/broker/store/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { LEASE_MS = 1000, MAX_DELIVERIES = 3 };

__attribute__((unused)) static uint64_t rng;
static char dir_name[64];
static int dir_fd;
static struct streams *q;
static int64_t now = 1000, wall = 1700000000000;

__attribute__((unused)) static uint32_t rnd(uint32_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)(rng >> 33) % n;
}

__attribute__((unused)) static void make_dir(void)
{
    strcpy(dir_name, "/tmp/simbdp-queue-XXXXXX");
    assert_non_null(mkdtemp(dir_name));
    dir_fd = open(dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir_fd >= 0);
}

__attribute__((unused)) static int marks(void)
{
    int fd = openat(dir_fd, "mark", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

__attribute__((unused)) static void remove_dir(void)
{
    close(dir_fd);
    assert_int_equal(fd_remove_tree(AT_FDCWD, dir_name), 0);
}

__attribute__((unused)) static struct sub *one_sub(const char *stream, const char *name)
{
    struct stream *st;
    struct sub *s;
    assert_int_equal(streams_add(q, stream, &st), 0);
    assert_int_equal(stream_add_sub(st, name, &s), 0);
    sub_configure(s, LEASE_MS, MAX_DELIVERIES);
    return s;
}

__attribute__((unused)) static void publish_n(struct sub *s, int n, size_t size)
{
    AUTO_FREE char *p = xcalloc(1, size + 1);
    uint64_t first;
    size_t known;
    for (int i = 0; i < n; i++) {
        snprintf(p, size + 1, "%d", i + 1);
        assert_int_equal(stream_publish(sub_stream(s), 0, 0, &(struct message){p, size, NULL}, 1, wall, &first, &known), 0);
    }
}

struct taken {
    uint64_t seqs[5000];
    size_t n;
};

__attribute__((unused)) static void on_taken(void *arg, uint64_t seq, int deliveries, int64_t at, const void *p, size_t n)
{
    struct taken *t = arg;
    (void)deliveries;
    (void)at;
    (void)p;
    (void)n;
    t->seqs[t->n++] = seq;
}

__attribute__((unused)) static size_t take(struct consumer *c, struct taken *t)
{
    t->n = 0;
    return consumer_lease(c, 5000, 1 << 30, now, on_taken, t);
}

__attribute__((unused)) static struct consumer *consumer(struct sub *s)
{
    struct consumer *c = sub_attach(s, NULL);
    consumer_set_window(c, 5000, 1 << 30);
    return c;
}

#endif
