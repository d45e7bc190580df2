/* Our side of scripts/bench stream, and the limit.
 *
 *     stream_client publish ENDPOINT STREAM N BYTES             messages a second, all confirmed
 *     stream_client consume ENDPOINT STREAM APP N               messages a second, acknowledged
 *     stream_client latency ENDPOINT STREAM APP N               microseconds from publish to the app, one at a time; a line each
 *     stream_client flood ENDPOINT STREAM BYTES                 publishes until it is killed
 *     stream_client limit DIRECTORY N                           microseconds: libzmq round trip over ipc, fdatasync of an append */
#include "base/clk.h"
#include "base/mem.h"
#include "stream/publisher.h"
#include "stream/subscriber.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { SIZE = 200, WINDOW = 10000, WINDOW_BYTES = 16 << 20 };

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const struct err *e)
{
    fprintf(stderr, "stream_client: %s\n", e->msg);
    exit(1);
}

static struct publisher *open_publisher(const char *endpoint, const char *stream)
{
    struct publisher *p = NULL;
    struct err e = {0};
    if (publisher_open(endpoint, NULL, stream, &p, &e) < 0)
        die(&e);
    return p;
}

static struct subscriber *open_subscriber(const char *endpoint, const char *stream, const char *app)
{
    struct subscriber *s = NULL;
    struct err e = {0};
    if (subscriber_open(endpoint, NULL, stream, app, WINDOW, WINDOW_BYTES, &s, &e) < 0)
        die(&e);
    return s;
}

static void publish(const char *endpoint, const char *stream, int64_t n, size_t size)
{
    struct publisher *p = open_publisher(endpoint, stream);
    struct err e = {0};
    AUTO_FREE char *m = xcalloc(1, size);
    memset(m, 'x', size);
    if (publisher_put(p, m, size, -1, &e) < 0 || publisher_flush(p, -1, &e) < 0) /* connected */
        die(&e);
    int64_t began = now_ns();
    for (int64_t i = 1; n < 0 || i < n; i++)
        if (publisher_put(p, m, size, -1, &e) < 0)
            die(&e);
    if (publisher_flush(p, -1, &e) < 0)
        die(&e);
    printf("%.0f\n", (double)n * 1e9 / (double)(now_ns() - began));
    publisher_close(p);
}

static void take(struct subscriber *s, struct subscriber_batch *b)
{
    struct err e = {0};
    int r;
    while ((r = subscriber_next(s, 1000, b, &e)) == 0)
        ;
    if (r < 0)
        die(&e);
}

static void acknowledge(struct subscriber *s, const struct subscriber_batch *b)
{
    static struct wire_range v[WINDOW];
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++)
        if (n && v[n - 1].last + 1 == b->v[i].seq)
            v[n - 1].last = b->v[i].seq;
        else
            v[n++] = (struct wire_range){b->v[i].seq, b->v[i].seq};
    subscriber_ack(s, v, n);
}

static void consume(const char *endpoint, const char *stream, const char *app, int64_t n)
{
    struct subscriber *s = open_subscriber(endpoint, stream, app);
    struct subscriber_batch b;
    int64_t began = now_ns();
    for (int64_t got = 0; got < n; got += (int64_t)b.n) {
        take(s, &b);
        acknowledge(s, &b);
    }
    printf("%.0f\n", (double)n * 1e9 / (double)(now_ns() - began));
    subscriber_close(s);
}

struct latency {
    const char *endpoint, *stream, *app;
    int64_t n;
    pthread_barrier_t taken;
};

static void *taker(void *arg)
{
    struct latency *l = arg;
    struct subscriber *s = open_subscriber(l->endpoint, l->stream, l->app);
    struct subscriber_batch b;
    for (int64_t i = 0; i < l->n; i++) {
        take(s, &b);
        int64_t at = now_ns(), sent;
        memcpy(&sent, b.v[0].p, sizeof sent);
        printf("%.1f\n", (double)(at - sent) / 1000);
        acknowledge(s, &b);
        pthread_barrier_wait(&l->taken);
    }
    subscriber_close(s);
    return NULL;
}

static void latency(struct latency *l)
{
    struct publisher *p = open_publisher(l->endpoint, l->stream);
    struct err e = {0};
    char m[SIZE] = {0};
    pthread_t t;
    pthread_barrier_init(&l->taken, NULL, 2);
    pthread_create(&t, NULL, taker, l);
    for (int64_t i = 0; i < l->n; i++) {
        int64_t at = now_ns();
        memcpy(m, &at, sizeof at);
        if (publisher_put(p, m, sizeof m, -1, &e) < 0 || publisher_flush(p, -1, &e) < 0)
            die(&e);
        pthread_barrier_wait(&l->taken);
    }
    pthread_join(t, NULL);
    publisher_close(p);
}

static void *echo(void *socket)
{
    char m[SIZE];
    for (int n; (n = zmq_recv(socket, m, sizeof m, 0)) > 0;)
        zmq_send(socket, m, (size_t)n, 0);
    zmq_close(socket);
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int64_t n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

static void limit(const char *dir, int64_t n)
{
    AUTO_FREE double *v = xcalloc((size_t)n, sizeof *v);
    AUTO_FREE char *endpoint = xasprintf("ipc://%s/limit.ipc", dir), *file = xasprintf("%s/limit", dir);
    void *zmq = zmq_ctx_new(), *a = zmq_socket(zmq, ZMQ_PAIR), *b = zmq_socket(zmq, ZMQ_PAIR);
    char m[SIZE] = {0};
    pthread_t t;
    zmq_bind(a, endpoint);
    zmq_connect(b, endpoint);
    pthread_create(&t, NULL, echo, a);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = now_ns();
        zmq_send(b, m, sizeof m, 0);
        zmq_recv(b, m, sizeof m, 0);
        v[i] = (double)(now_ns() - at) / 1000;
    }
    zmq_send(b, m, 0, 0);
    pthread_join(t, NULL);
    zmq_close(b);
    zmq_ctx_term(zmq);
    double trip = median(v, n);
    int fd = open(file, O_CREAT | O_RDWR | O_CLOEXEC | O_TRUNC, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, n * SIZE) < 0)
        exit(1);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = now_ns();
        if (pwrite(fd, m, sizeof m, i * SIZE) < 0 || fdatasync(fd) < 0)
            exit(1);
        v[i] = (double)(now_ns() - at) / 1000;
    }
    close(fd);
    printf("%.1f %.1f\n", trip, median(v, n));
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "publish") && argc == 6)
        publish(argv[2], argv[3], atoll(argv[4]), (size_t)atoll(argv[5]));
    else if (!strcmp(what, "flood") && argc == 5)
        publish(argv[2], argv[3], -1, (size_t)atoll(argv[4]));
    else if (!strcmp(what, "consume") && argc == 6)
        consume(argv[2], argv[3], argv[4], atoll(argv[5]));
    else if (!strcmp(what, "latency") && argc == 6)
        latency(&(struct latency){.endpoint = argv[2], .stream = argv[3], .app = argv[4], .n = atoll(argv[5])});
    else if (!strcmp(what, "limit") && argc == 4)
        limit(argv[2], atoll(argv[3]));
    else
        return 2;
    return 0;
}
